SELECT -- Every run of the study: what it took, and how many held-out questions it answers at its end.
    e.params ->> 'budget' AS budget,
    a.role,
    a.subset,
    a.seed,
    a.questions AS training_questions,
    a.updates,
    a.rollouts,
    (
        SELECT sum(u.informative_groups) FROM updates u WHERE u.arm_id = a.arm_id
    ) AS informative_groups,
    c.correct AS held_out_correct,
    c.questions AS held_out_questions,
    round(a.wall_seconds) AS seconds,
    a.status
FROM arms a
JOIN experiments e USING (experiment_id)
JOIN accuracies c USING (arm_id)
WHERE c.split = 'held-out' AND c.decoding = 'greedy'
QUALIFY c.fraction = max(c.fraction) OVER (PARTITION BY a.experiment_id, a.arm_id)
ORDER BY budget, a.role, a.subset, a.seed
