"""The options of a command that reads every entity of a query and commits nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, get_type_hints

from bulkup.cli.engine_args import EngineArgs
from bulkup.engine.throttle.max_rate import MaxRate

if TYPE_CHECKING:
    from bulkup.engine.options import Options

    Shards: TypeAlias = int | None
    Rate: TypeAlias = MaxRate
    Limit: TypeAlias = int | None
    MaxTime: TypeAlias = float | None
    RetryFor: TypeAlias = float
else:
    _engine = get_type_hints(EngineArgs, include_extras=True)
    Shards, Rate = _engine["shards"], _engine["max_rate"]
    Limit, MaxTime, RetryFor = _engine["limit"], _engine["max_time"], _engine["retry_for"]


@dataclass(frozen=True)
class ReadingArgs:
    """The options of `EngineArgs` that are about reading."""

    shards: Shards
    max_rate: Rate
    limit: Limit
    max_time: MaxTime
    retry_for: RetryFor

    def options(self) -> Options:
        from bulkup.engine.options import Options

        return Options(
            shards=self.shards,
            max_rate=self.max_rate,
            limit=self.limit,
            max_time_s=self.max_time,
            retry_for_s=self.retry_for,
            dry_run=True,
        )
