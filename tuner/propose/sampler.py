"""Optuna's tree-structured Parzen estimator as a function of the history alone.

This is the only module that knows trials and studies. A study is made anew for each proposal
from the results told so far, so that proposal i depends on the seed, on i and on those results,
and a resumed run goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner.propose.choices import TableChoices
from tuner.spec import Candidate, Choices
from tuner.spec.space import Option

if TYPE_CHECKING:
    import optuna

Draw = Callable[[Choices], Candidate]

IMPORTANT_SHARE = 0.25
"""Importance asks what sets this best share of the candidates apart from all."""

IMPORTANCE_LEAST = 20
"""Fewer scored candidates tell nothing: Optuna wants 5 or more in the best share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One earlier proposal.

    Args:
        space: that drew it.
        choices: the values that made it.
        fits: the targets that it fits.
        rung: the last rung that it is known to have been trained to.
        score: its accuracy there; None while it is not known.
    """

    space: str
    choices: Mapping[str, Any]
    fits: frozenset[str]
    rung: int = 0
    score: float | None


class _TrialChoices:
    """Asks an Optuna trial; names are prefixed by the space."""

    def __init__(self, trial: optuna.Trial, space: str) -> None:
        self._trial, self._space = trial, space
        self.taken: dict[str, Any] = {}

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        index = self._trial.suggest_int(f"{self._space}/{name}", 0, len(options) - 1)
        self.taken[name] = value = options[index]
        return value

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        value: Option = self._trial.suggest_categorical(f"{self._space}/{name}", list(options))
        self.taken[name] = value
        return value

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        value = self._trial.suggest_float(f"{self._space}/{name}", low, high, log=log)
        self.taken[name] = value
        return value


class _Distributions(TableChoices):
    """Replays recorded choices and notes Optuna's parameters and distributions for them."""

    def __init__(self, table: Mapping[str, Any], space: str) -> None:
        super().__init__(table)
        self._space = space
        self.parameters: dict[str, Any] = {}
        self.distributions: dict[str, Any] = {}

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        from optuna.distributions import IntDistribution

        value = super().ordered(name, options)
        self._note(name, list(options).index(value), IntDistribution(0, len(options) - 1))
        return value

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        from optuna.distributions import CategoricalDistribution

        value = super().categorical(name, options)
        self._note(name, value, CategoricalDistribution(list(options)))
        return value

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        from optuna.distributions import FloatDistribution

        value = super().floating(name, low, high, log=log)
        self._note(name, value, FloatDistribution(low, high, log=log))
        return value

    def _note(self, name: str, value: Any, distribution: Any) -> None:
        self.parameters[f"{self._space}/{name}"] = value
        self.distributions[f"{self._space}/{name}"] = distribution


class Sampler:
    """Asks Optuna for the candidates of one target.

    Args:
        draws: by space, its `draw` bound to the context.
    """

    def __init__(self, draws: Mapping[str, Draw]) -> None:
        self._draws = draws
        self._replays: dict[tuple[str, str], _Distributions | None] = {}

    def ask(
        self, history: Sequence[Told], space: str, seed: int
    ) -> tuple[Candidate, dict[str, Any]]:
        """Ask for one candidate.

        Args:
            history: earlier proposals in order; what `draws` would not offer is passed over.
            space: the space to draw from.
            seed: of the sampler.

        Returns:
            The candidate and the choices that made it.
        """
        import optuna
        from optuna.trial import TrialState, create_trial

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=0, multivariate=True, group=True, constant_liar=True
            )
            study = optuna.create_study(direction="maximize", sampler=sampler)
            for told in history:
                replay = self._replayed(told)
                if replay is None:
                    continue
                # Optuna orders pruned trials by the rung they reached, then by the score there.
                known = {} if told.score is None else {told.rung: told.score}
                study.add_trial(
                    create_trial(
                        state=TrialState.PRUNED if known else TrialState.RUNNING,
                        params=replay.parameters,
                        distributions=replay.distributions,
                        intermediate_values=known,
                    )
                )
            choices = _TrialChoices(study.ask(), space)
            candidate = self._draws[space](choices)
        return candidate, choices.taken

    def _replayed(self, told: Told) -> _Distributions | None:
        """Its choices as Optuna's; None for one made where other values were offered.

        Kept, as to draw all earlier proposals anew took half of the time of a proposal.
        """
        key = told.space, json.dumps(dict(told.choices))
        if key not in self._replays:
            replay = _Distributions(told.choices, told.space)
            self._draws[told.space](replay)
            self._replays[key] = replay if replay.taken == told.choices else None
        return self._replays[key]


def importances(choices: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> dict[str, float]:
    """How much each choice decides whether a candidate is among the best quarter.

    By Optuna's PED-ANOVA (Watanabe et al., arXiv 2304.10255), in its form for choices that not
    every candidate makes (arXiv 2601.20800). Numbers count by their order alone.

    Args:
        choices: of each candidate, by name; one of the same name in two spaces counts as one.
        scores: of each candidate, the higher the better, all after training of the same length.

    Returns:
        Shares that sum to 1, the largest first, of the choices that differ between candidates.
        Empty with fewer than `IMPORTANCE_LEAST` candidates, and where no choice or no score
        differs.
    """
    import optuna
    from optuna.trial import create_trial

    if len(scores) < IMPORTANCE_LEAST or min(scores) == max(scores):
        return {}
    values: dict[str, list[Any]] = {}
    for made in choices:
        for name, value in made.items():
            values.setdefault(name, []).append(value)
    codes = {name: _codes(found) for name, found in values.items() if len(set(found)) > 1}
    if not codes:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        # Optuna warns of choices that hardly any candidate makes; they get next to nothing.
        warnings.simplefilter("ignore", UserWarning)
        study = optuna.create_study(direction="maximize")
        for made, score in zip(choices, scores, strict=True):
            known = {name: value for name, value in made.items() if name in codes}
            study.add_trial(
                create_trial(
                    value=score,
                    params={name: codes[name][0][value] for name, value in known.items()},
                    distributions={name: codes[name][1] for name in known},
                )
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=IMPORTANT_SHARE)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def _codes(values: Sequence[Any]) -> tuple[dict[Any, Any], Any]:
    """Optuna's value for each value of a choice, and the distribution of them."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        ordered = sorted(set(values))
        codes = {value: code for code, value in enumerate(ordered)}
        return codes, IntDistribution(0, len(ordered) - 1)
    names = {value: str(value) for value in sorted(set(values), key=str)}
    return names, CategoricalDistribution(tuple(names.values()))
