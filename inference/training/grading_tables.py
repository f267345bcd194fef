"""How well the grader grades, as tables: what a reader of ``docs/grading.md`` wants to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.grades import TITLES, Finding
from inference.grading import FAR_APART, FIRM, UNSURE
from inference.training import calibration, grading_scores, gradings
from inference.training.calibration import OutOfFold
from inference.training.gradings import LEVEL_OF_LABEL, MARROW_TARGET, TARGETS, UNKNOWN, GradedDiscs, targets_of
from inference.volume import FloatArray

Shares = Mapping[str, FloatArray]
"""Per target (n, classes) probabilities."""
Mask = NDArray[np.bool_]
PFIRRMANN = Finding.PFIRRMANN.value
FEWEST_GROUPED = 30
"""Discs of a group that figures are given of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """Labels beside what was said of the same discs by graders that had not seen their patients."""

    discs: GradedDiscs
    together: Shares
    """All opinions together, as each fold's training left them."""
    calibrated: Shares
    """The same with the sharpness that was fitted on the other folds."""
    network: Shares
    regression: Shares
    perceptrons: Shares

    @property
    def targets(self) -> tuple[str, ...]:
        """What there are labels for, and something was said of."""
        return tuple(target for target in targets_of(self.discs.labels) if target in self.together)

    @property
    def yes_or_no(self) -> tuple[str, ...]:
        return tuple(target for target in self.targets if target != PFIRRMANN)

    def known(self, target: str) -> Mask:
        return np.asarray(self.discs.labels[:, TARGETS.index(target)] != UNKNOWN)

    def truth(self, target: str, rows: Mask) -> NDArray[np.int64]:
        """(rows,) class indices, 0 = mildest."""
        return np.asarray(self.discs.labels[rows, TARGETS.index(target)] - least(target), np.int64)


def evaluated(discs: GradedDiscs, said: OutOfFold) -> Evaluated:
    """Everything that the tables are made of."""
    return Evaluated(
        discs=discs,
        together=calibration.joined(said, calibration.all_alike(np.ones(len(TARGETS)))),
        calibrated=calibration.held_out(said, discs.labels),
        **{opinion: calibration.alone(said, opinion) for opinion in calibration.OPINIONS},
    )


def least(target: str) -> int:
    """The mildest value of a target."""
    return 1 if target == PFIRRMANN else 0


def median(shares: FloatArray) -> NDArray[np.int64]:
    """(n, classes) -> (n,) class index in which the median lies, as ``inference.grading`` says it."""
    return np.asarray((shares.cumsum(axis=1) < 0.5).sum(axis=1).clip(0, shares.shape[1] - 1), np.int64)


def title(target: str) -> str:
    return "Marrow change, either side" if target == MARROW_TARGET else TITLES[Finding(target)]


def main_table(found: Evaluated, rows: Mask) -> str:
    """Each grading over the chosen discs."""
    head = ["grading", "discs (positive)", "AUC", "PR-AUC", "balanced accuracy", "MCC"]
    lines = header(head)
    for target in found.yes_or_no:
        chosen = rows & found.known(target)
        if not chosen.any():
            continue
        truth, shares = found.truth(target, chosen), found.together[target][chosen]
        patient, said = found.discs.patient[chosen], median(shares)
        lines.append(
            line(
                [
                    title(target),
                    f"{len(truth)} ({int(truth.sum())})",
                    _with_interval(grading_scores.auc, truth, shares[:, 1], patient),
                    f"{grading_scores.average_precision(truth, shares[:, 1]):.3f}",
                    _with_interval(grading_scores.balanced_accuracy, truth, said, patient),
                    f"{grading_scores.matthews(truth, said):.3f}",
                ]
            )
        )
    has_pfirrmann = PFIRRMANN in found.targets and (rows & found.known(PFIRRMANN)).any()
    return "\n".join([*lines, "", _pfirrmann_line(found, rows)] if has_pfirrmann else lines)


def _pfirrmann_line(found: Evaluated, rows: Mask) -> str:
    chosen = rows & found.known(PFIRRMANN)
    truth, said, patient = (
        found.truth(PFIRRMANN, chosen),
        median(found.together[PFIRRMANN][chosen]),
        found.discs.patient[chosen],
    )
    error = np.abs(truth - said)
    return (
        f"Pfirrmann ({len(truth)} discs): quadratic weighted kappa "
        f"{_with_interval(grading_scores.quadratic_weighted_kappa, truth, said, patient)}, balanced accuracy "
        f"{_with_interval(grading_scores.balanced_accuracy, truth, said, patient)}, Lin's concordance "
        f"{grading_scores.lins_concordance(truth, said):.3f}, MCC {grading_scores.matthews(truth, said):.3f}, mean "
        f"absolute error {error.mean():.2f}, within one grade {(error <= 1).mean():.3f}."
    )


def opinions_table(found: Evaluated, rows: Mask) -> str:
    """Each opinion by itself, and all together: QWK for Pfirrmann, AUC for the others."""
    lines = header(["opinion", *("Pfirrmann (QWK)" if t == PFIRRMANN else title(t) for t in found.targets), "mean"])
    for name in (*calibration.OPINIONS, "together"):
        shares = getattr(found, name)
        scores = [headline(found, shares, target, rows) for target in found.targets]
        lines.append(line([name, *(f"{score:.3f}" for score in scores), _mean(scores)]))
    return "\n".join(lines)


def headline(found: Evaluated, shares: Shares, target: str, rows: Mask) -> float:
    """The figure a grading is known by: QWK for Pfirrmann, AUC for the others."""
    chosen = rows & found.known(target)
    return score_of(target, found.truth(target, chosen), shares[target][chosen])


def score_of(target: str, truth: NDArray[np.int64], shares: FloatArray) -> float:
    """As ``headline``: (n,) class indices, (n, classes) probabilities."""
    if target == PFIRRMANN:
        return grading_scores.quadratic_weighted_kappa(truth, median(shares))
    return grading_scores.auc(truth, shares[:, 1])


def groups_table(found: Evaluated, rows: Mask, groups: Mapping[str, NDArray[np.str_]]) -> str:
    """By level, and by whatever ``groups`` (name -> (n,) value of each disc) hold."""
    level = np.array([LEVEL_OF_LABEL[number].value for number in found.discs.label_number.tolist()])
    of_pfirrmann = ["Pfirrmann QWK", "Pfirrmann within one"] if PFIRRMANN in found.targets else []
    lines = header(["group", "discs", *of_pfirrmann, "mean AUC of the others"])
    for name, values in {"level": level, **groups}.items():
        for value in np.unique(values[rows]):
            chosen = rows & (values == value)
            if chosen.sum() < FEWEST_GROUPED:
                continue
            others = [headline(found, found.together, target, chosen) for target in found.yes_or_no]
            lines.append(
                line(
                    [
                        f"{name} {value}",
                        f"{int(chosen.sum())}",
                        *(_pfirrmann_cells(found, chosen) if of_pfirrmann else ()),
                        _mean(others),
                    ]
                )
            )
    return "\n".join(lines)


def _pfirrmann_cells(found: Evaluated, chosen: Mask) -> tuple[str, str]:
    known = chosen & found.known(PFIRRMANN)
    if not known.any():
        return "-", "-"
    error = np.abs(found.truth(PFIRRMANN, known) - median(found.together[PFIRRMANN][known]))
    return f"{headline(found, found.together, PFIRRMANN, chosen):.3f}", f"{(error <= 1).mean():.3f}"


def _mean(scores: Sequence[float]) -> str:
    """Of those that are defined."""
    defined = [score for score in scores if np.isfinite(score)]
    return f"{np.mean(defined):.3f}" if defined else "-"


def calibration_table(found: Evaluated, rows: Mask) -> str:
    """Expected calibration error before and after, for classes drawn equally often."""
    lines = header(["grading", "before", "after"])
    for target in found.targets:
        chosen = rows & found.known(target)
        if not chosen.any():
            continue
        truth = found.truth(target, chosen)
        counts = np.bincount(truth, minlength=found.together[target].shape[1])
        weights = 1.0 / counts[truth]
        errors = [
            grading_scores.calibration_error(truth, shares[target][chosen], weights)
            for shares in (found.together, found.calibrated)
        ]
        lines.append(line([title(target), *(f"{error:.3f}" for error in errors)]))
    return "\n".join(lines)


def doubt(found: Evaluated, target: str, rows: Mask) -> tuple[Mask, Mask]:
    """Of the chosen discs: whose grade is uncertain by its probability; where network and regression are at odds."""
    shares, own, other = (each[target][rows] for each in (found.calibrated, found.network, found.regression))
    said, seen, measured = median(shares), median(own), median(other)
    each = np.arange(len(said))
    finding = gradings.findings_of(target)[0]
    if target == PFIRRMANN:
        at_odds = np.abs(seen - measured) >= FAR_APART
    else:
        at_odds = (seen != measured) & (own[each, seen] > FIRM) & (other[each, measured] > FIRM)
    return shares[each, said] < UNSURE[finding], at_odds


def doubt_table(found: Evaluated, rows: Mask) -> str:
    """What the abstention rule keeps, and how often grades are wrong among those kept and those doubted."""
    lines = header(["grading", "doubted", "of these at odds", "wrong among the doubted", "wrong among the rest"])
    for target in found.targets:
        chosen = rows & found.known(target)
        if not chosen.any():
            continue
        unsure, at_odds = doubt(found, target, chosen)
        wrong = median(found.calibrated[target][chosen]) != found.truth(target, chosen)
        doubted = unsure | at_odds
        shares = (_share(each) for each in (doubted, at_odds[doubted], wrong[doubted], wrong[~doubted]))
        lines.append(line([title(target), *shares]))
    return "\n".join(lines)


def _share(mask: Mask) -> str:
    return f"{mask.mean():.0%}" if mask.size else "-"


def _with_interval(
    score: Callable[..., float], truth: NDArray[np.int64], said: NDArray[np.generic], patient: NDArray[np.int64]
) -> str:
    value = score(truth, said)
    if not np.isfinite(value):
        return "-"
    low, high = grading_scores.interval(score, truth, said, patient)  # type: ignore[arg-type]
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def header(titles: Sequence[str]) -> list[str]:
    return [line(titles), "|---" * len(titles) + "|"]


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
