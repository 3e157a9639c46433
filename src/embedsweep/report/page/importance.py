"""How much each searched key mattered, for each combination of options by itself.

One figure over all trials misleads where keys are searched under some options only: a key that decides everything
within one loss may come out as nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedsweep.report.page.content import Chart, DataTable, Section
from embedsweep.report.page.figures import axis, figure, plain
from embedsweep.report.results import StudyResults, TrialRow

EVALUATOR = "PED-ANOVA"
FEWEST = 10
"""Complete trials of an option below which nothing is said."""
SAFE = 50
"""Complete trials from which on the best tenth has the five that Optuna advises at least."""


@dataclass(frozen=True)
class Importance:
    """The importance of the keys that are searched under some options.

    Attributes:
        options: swept group -> option; empty where no group was swept.
        n_trials: complete trials with these options, which were trained.
        shares: key -> its share of the importance, which all add up to 1, the largest first; empty of too few trials
            and of trials whose scores are all the same.
    """

    options: Mapping[str, str]
    n_trials: int
    shares: Mapping[str, float]

    @property
    def name(self) -> str:
        """The options in words."""
        return ", ".join(f"{group}={option}" for group, option in self.options.items()) or "all trials"


def importances(results: StudyResults) -> list[Importance]:
    """Return the importance of the keys for each combination of options, that with the most trials first.

    By PED-ANOVA (Watanabe et al., IJCAI 2023): how much the values of the best tenth of the trials differ from those
    of all. About 2 seconds for 1,000 trials.
    """
    rows = [row for row in results.rows if row.state == "COMPLETE" and not row.is_reused]
    together: dict[tuple[tuple[str, str], ...], list[TrialRow]] = {}
    for row in rows:
        together.setdefault(tuple(row.options.items()), []).append(row)
    found = [
        Importance(dict(options), len(mine), _shares(results, mine) if len(mine) >= FEWEST else {})
        for options, mine in together.items()
    ]
    return sorted(found, key=lambda each: -each.n_trials)


def _shares(results: StudyResults, rows: Sequence[TrialRow]) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    study, groups = results.study, set(results.study.plan.groups)
    trials, metric = study.trials, study.plan.objective
    scores = {row.number: row.objectives[metric] for row in rows}
    if len(set(scores.values())) == 1:
        return {}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would print that a study was created
    try:
        # With `target=` the evaluator takes small values for good ones; here, as in the study, large ones are.
        alone = optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
    for number, score in scores.items():
        trial, names = trials[number], trials[number].params.keys() - groups
        params = {name: trial.params[name] for name in names}
        distributions = {name: trial.distributions[name] for name in names}
        alone.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=score))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials make it rough, which the page says itself
        evaluator = PedAnovaImportanceEvaluator()
        shares = get_param_importances(alone, evaluator=evaluator, normalize=False)
    total = sum(shares.values())
    ranked = sorted(shares.items(), key=lambda each: (-each[1], each[0]))
    return {_key(name): share / total for name, share in ranked} if total > 0 else {}


def _key(parameter: str) -> str:
    """Return the key of a parameter of Optuna, whose name also says where it is searched."""
    return parameter.partition(" [")[0]


def importance(results: StudyResults) -> Section:
    """Return the section."""
    found = importances(results)
    known = [each for each in found if each.shares]
    few = [f"{each.name} ({each.n_trials})" for each in found if each.n_trials < FEWEST]
    same = [each.name for each in found if each.n_trials >= FEWEST and not each.shares]
    sentences = [
        f"Evaluator: {EVALUATOR} of Optuna, on the complete trials of each combination of options by itself: how much "
        "the values of the best tenth of its trials differ from those of all. Shares of a combination add up to 1; "
        "they cannot be compared between combinations."
    ]
    if few or not found:
        sentences.append(f"Fewer than {FEWEST} complete trials, too few to say: {', '.join(few) or 'all trials (0)'}.")
    if same:
        sentences.append(f"Nothing that is searched made a difference: {', '.join(same)}.")
    rough = [each.name for each in known if each.n_trials < SAFE]
    if rough:
        sentences.append(f"Rough, of fewer than {SAFE} trials: {', '.join(rough)}.")
    rows = [
        (each.name, str(each.n_trials), key, f"{share:.3f}") for each in known for key, share in each.shares.items()
    ]
    table = DataTable("Importance", ("options", "trials", "key", "share"), rows, frozenset({0, 2}), is_folded=True)
    return Section("importance", "Importance", sentences, [_chart(each) for each in known], [table] if rows else [])


def _chart(each: Importance) -> Chart:
    keys, shares = list(each.shares)[::-1], list(each.shares.values())[::-1]
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": shares,
        "y": [plain(key) for key in keys],
        "text": [f"{share:.3f}" for share in shares],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "meta": {"color": 0},
    }
    drawn = figure([bars], axis("share", range=[0, 1.15]), axis(""), height=130 + 26 * len(keys))
    text = "; ".join(f"{key} {share:.3f}" for key, share in each.shares.items())
    return Chart(f"{each.name}: {each.n_trials} trials", f"Importance with {each.name}: {text}.", drawn, is_small=True)
