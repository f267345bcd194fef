"""The settings of ``[proof]`` and ``[retention]``."""

from __future__ import annotations

from pydantic import Field, model_validator

from node.settings_values import Count, Days, Seconds, SettingsTable, Timeout


class ProofSettings(SettingsTable):
    """How an archive's proof that it holds a result is waited for."""

    report_wait_s: Timeout = Field(default=5, ge=0)
    """How long the association of a request is kept, for archives that report on it."""
    overdue_s: Seconds = Field(default=600, gt=0)
    """A report that has not come by then is asked for again; the waits double ..."""
    maximum_delay_s: Seconds = Field(default=6 * 3600, gt=0)
    """... up to this, for as long as it takes."""
    sent_again: Count = Field(default=3, ge=0)
    """How often a result that an archive took, and does not hold, is sent to it again before it is a dead letter."""


class RetentionSettings(SettingsTable):
    """When what is proven may be deleted. Nothing else ever is."""

    keep_everything: bool = False
    images_days: Days = Field(default=30, gt=0)
    """After the last proof: the images that were received."""
    results_days: Days = Field(default=90, gt=0)
    """After the last proof: the files of the results."""
    rows_days: Days = Field(default=3650, gt=0)
    """After the last proof: what the ledger knows of the study."""
    without_proof: bool = False
    """True: where ``archives.proof`` is "none" the archive's answer that it has stored a result counts as proof."""

    @model_validator(mode="after")
    def _in_that_order(self) -> RetentionSettings:
        if not self.images_days <= self.results_days <= self.rows_days:
            raise ValueError("images_days, results_days and rows_days must not shrink, in that order")
        return self
