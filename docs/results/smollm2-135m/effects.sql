SELECT -- Every effect of the study: gains and their parts, shares, differences from controls, p-values.
    e.params ->> 'budget' AS budget,
    f.role,
    f.subset,
    f.evaluated_on,
    f.fraction AS at,
    f.statistic,
    format('{:.4g}', f.value) AS value,
    format('{:.4g}', f.low) AS low,
    format('{:.4g}', f.high) AS high,
    f.seeds,
    f.questions
FROM effects f
JOIN experiments e USING (experiment_id)
WHERE NOT starts_with(f.evaluated_on, 'held-out:') OR f.statistic = 'gain_part'
ORDER BY ALL
