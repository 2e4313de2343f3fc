"""What the top of a run's folder says of its stages: ``run.json``, ``results.json`` and the report."""

import attrs

from diffusability.core.planning.plan import Plan, PlannedStage
from diffusability.core.report import build_report
from diffusability.core.run.folder_writer import RunFolder


@attrs.define(kw_only=True, eq=False)
class Overview:
    """Keeps the files at the top in step with the stages.

    Attributes:
        plan: all stages of the run.
        folder: the run's folder.
        command: how the run was started.
        writes: False for the processes that leave this to another one.
    """

    plan: Plan
    folder: RunFolder
    command: str
    writes: bool = True
    _status: dict[str, str] = attrs.field(factory=dict, init=False)

    def begin(self, stage: PlannedStage) -> None:
        """A stage is under way."""
        self._status[stage.directory_name] = "running"
        if self.writes:
            self.folder.write_overview(self.plan, self.command, self._status)

    def end(self, stage: PlannedStage, status: str) -> None:
        """A stage has ended before it was done, ``failed`` or ``stopped``; the report will say so."""
        self._status[stage.directory_name] = status

    def finish(self, stage: PlannedStage) -> None:
        """A stage is done, and its results are there."""
        self._status.pop(stage.directory_name, None)
        if self.writes:
            self.folder.write_results(self.plan)
            self.folder.write_overview(self.plan, self.command, self._status)

    def report(self) -> None:
        """Gathers everything that the stages have left."""
        if self.writes:
            self.folder.write_results(self.plan)
            self.folder.write_overview(self.plan, self.command, self._status)
            build_report([self.folder.root])
