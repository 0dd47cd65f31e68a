-- What every arm is trained on, random controls included; and graded rollouts in one place.

CREATE TABLE arm_questions (
    arm_id      VARCHAR NOT NULL,
    question_id VARCHAR NOT NULL
);

-- Rollouts with their verdict, once for every grader that has seen them. Rollouts that failed are not among them.
CREATE VIEW graded_rollouts AS
SELECT rollout.*, verdict.grader, verdict.verdict, verdict.detail
FROM rollouts AS rollout
JOIN questions AS question USING (question_id)
JOIN verdicts AS verdict
  ON verdict.question_id = rollout.question_id AND verdict.answers_hash = question.answers_hash
 AND verdict.text = rollout.text AND verdict.truncated = (rollout.finish_reason = 'length')
WHERE rollout.finish_reason <> 'error';
