"""A study: Optuna by ask and tell, with a frozen plan, an exact number of trials, and trials that survive their worker.

`opening` creates or opens a study, `study` asks Optuna for trials and tells it their results, `record` reads them.
"""
