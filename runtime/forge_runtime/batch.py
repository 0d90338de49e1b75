"""A run of the model for several requests, and what each of them gets of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from forge_runtime.backend import Generation
from forge_runtime.error import BackendLost, RequestError, StepError
from forge_runtime.exchange import Exchange
from forge_runtime.method import Run
from forge_runtime.metric import Metrics
from forge_runtime.step import note

__all__ = ["BatchRunner"]


class BatchRunner:
    """Runs batches in the model's thread, and settles their jobs.

    No request fails for the one beside it: where a run of several raises, each is run again by itself, and
    where the backend was lost, once it is there again. But not one whose text somebody has begun to read.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def run(self, jobs: Sequence[Run]) -> Sequence[Run]:
        """Settle what can be settled; return what is to run again."""
        items = sum(job.items for job in jobs)
        self._metrics.batches.observe(items)
        for job in jobs:
            job.exchange.batch_size = items
            note("queue", job.exchange.seconds, job.queued)
        started = time.perf_counter()
        outcomes: Sequence[Any]
        try:
            outcomes = self._outcomes(jobs)
        except BackendLost as error:
            outcomes = [error] * len(jobs)
        again = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            note("infer", job.exchange.seconds, started)
            if isinstance(outcome, BackendLost) and len(jobs) > 1 and _is_untouched(job):
                job.lane = None
                again.append(job)
            else:
                self._settle(job, outcome)
        return again

    def _outcomes(self, jobs: Sequence[Run]) -> Sequence[Any]:
        try:
            outcomes = jobs[0].infer([job.asked for job in jobs])
            if len(outcomes) != len(jobs):
                raise ValueError(f"{len(jobs)} requests, but {len(outcomes)} outcomes")
        except BackendLost:
            raise
        except BaseException as error:
            if len(jobs) == 1:
                return [error]
            return [self._alone(job, error) for job in jobs]
        return outcomes

    def _alone(self, job: Run, error: BaseException) -> Any:
        return self._outcomes([job])[0] if _is_untouched(job) else error

    def _settle(self, job: Run, outcome: Any) -> None:
        if isinstance(outcome, RequestError):
            job.future.set_exception(outcome)
        elif isinstance(outcome, BaseException):
            job.future.set_exception(StepError("infer", outcome))
        else:
            try:
                self._count_tokens(job.exchange, outcome)
            except Exception as error:
                job.future.set_exception(StepError("infer", error))
            else:
                job.future.set_result(outcome)

    def _count_tokens(self, exchange: Exchange, results: Any) -> None:
        texts = [each for each in results if isinstance(each, Generation)] if isinstance(results, (list, tuple)) else []
        if texts:
            exchange.prompt_tokens = sum(each.prompt_tokens for each in texts)
            exchange.generated_tokens = sum(each.generated_tokens for each in texts)
            self._metrics.prompt_tokens.inc(exchange.prompt_tokens)
            self._metrics.generated_tokens.inc(exchange.generated_tokens)


def _is_untouched(job: Run) -> bool:
    """Say whether nothing of its answer was given away, and somebody waits for it."""
    return job.exchange.first_token_s is None and not job.is_cancelled()
