"""A study: Optuna by ask and tell, with a frozen plan, an exact budget and trials that survive their worker.

Owns what lies in Optuna's storage and in the study's folder, ``sweeps/<study>``. Knows neither Hydra nor MLflow nor
how a trial is trained.
"""
