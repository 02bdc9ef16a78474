"""Embedding on a Ray cluster: actors hold the reward model, Ray Data streams blocks through them."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from qbrm.errors import InputError, WorkerError, reason
from qbrm.features.engine import Advance, Described, EmbeddedBlock, describe, embed_block, refusals
from qbrm.features.plan import Block
from qbrm.preferences.base import Prompt
from qbrm.reward_models.base import Refusal, RewardModel

RETRIES = 3
"""How often a block is embedded again after the worker that had it died."""

Load = Callable[[], RewardModel]
Row = dict[str, Any]


class RayEngine:
    """Embeds on the workers of a Ray cluster; get one from :func:`ray_engine`.

    Workers that die are replaced and their blocks embedded again. They write nothing: features come back to the
    process that asked. On CPUs of one kind they are those of :class:`LocalEngine` bit for bit: the last bits of matrix
    products depend on the number of threads, so each worker takes as many as this process has.

    Args:
        ray: the package, connected to a cluster.
        load: loads the reward model, in each worker.
        workers: how many workers.
        share: GPUs or cores of each, as Ray calls them.

    Raises:
        InputError: if the model cannot be loaded.
    """

    def __init__(self, ray: Any, load: Load, workers: int, share: Mapping[str, float]) -> None:
        self._ray, self._load, self._workers, self._share = ray, load, workers, dict(share)
        self._first: Any = ray.remote(**self._share)(_First).remote(load)
        self.described: Described = self._asked("describe")

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> list[Refusal]:
        """The texts that the reward model cannot take."""
        found: list[Refusal] = self._asked("refusals", list(prompts), list(responses))
        return found

    def embed(self, blocks: Sequence[Block], advance: Advance) -> Iterator[tuple[Block, EmbeddedBlock]]:
        """Embed every block once; they come in the order in which workers finish.

        Raises:
            InputError: if the model returns NaN, infinite or misshapen values.
            WorkerError: if a worker raised something else, or blocks keep killing their workers.
        """
        self._ray.kill(self._first)  # its share is a worker's
        if not blocks:
            return
        with self._said_in_one_line():
            for row in self._pipeline(blocks).iter_rows():
                block = blocks[row["number"]]
                embedded: EmbeddedBlock = _read(row["answer"])
                advance(len(block.keys))
                yield block, embedded

    def _asked(self, question: str, *arguments: Any) -> Any:
        with self._said_in_one_line():
            answer = self._ray.get(getattr(self._first, question).remote(*arguments))
        return _read(answer)

    def _pipeline(self, blocks: Sequence[Block]) -> Any:
        """The lazy data set of answers. A row is a block, so that Ray can neither split nor join blocks."""
        data = self._ray.data
        rows = [{"number": number, "block": pickle.dumps(block)} for number, block in enumerate(blocks)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray warns of its own use of its own settings
            context = data.DataContext.get_current()
            context.enable_progress_bars = context.print_on_execution_start = False
            return data.from_items(rows, override_num_blocks=len(rows)).map(
                _Worker,
                fn_constructor_args=(self._load, torch.get_num_threads()),
                compute=data.ActorPoolStrategy(size=min(self._workers, len(rows))),
                max_task_retries=RETRIES,
                **self._share,
            )

    @contextmanager
    def _said_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except self._ray.exceptions.RayError as error:
            raise WorkerError(
                f"Ray workers failed ({reason(error)}); what is embedded is kept, the same command continues."
            ) from error


class _First:
    """Holds the reward model until blocks are embedded, to answer what is asked before."""

    def __init__(self, load: Load) -> None:
        self._load = cache(load)

    def describe(self) -> bytes:
        return _answer(lambda: describe(self._load()))

    def refusals(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> bytes:
        return _answer(lambda: refusals(self._load(), prompts, responses))


class _Worker:
    def __init__(self, load: Load, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = load()

    def __call__(self, row: Row) -> Row:
        answer = _answer(lambda: embed_block(self._model, pickle.loads(row["block"])))
        return {"number": row["number"], "answer": answer}


@contextmanager
def ray_engine(load: Load, workers: int | None = None) -> Iterator[RayEngine]:
    """Start workers on the Ray cluster that is there, or on one of this machine's cores and GPUs that ends with it.

    The cluster is the one that is connected to, else that of ``RAY_ADDRESS``, else the one that ``ray start`` left on
    this machine.

    Args:
        load: loads the reward model, in each worker; has to be picklable.
        workers: how many; None for one per GPU or, where there is none, one per machine.

    Raises:
        InputError: if Ray is not installed, no cluster answers, there are fewer GPUs or cores than workers, or the
            model cannot be loaded.
    """
    ray = _import_ray()
    connected = ray.is_initialized()
    if not connected:
        _connect(ray)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield RayEngine(ray, load, *share_out(nodes, workers))
    finally:
        if not connected:
            ray.shutdown()


def _connect(ray: Any) -> None:
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise InputError(
            f"no Ray cluster on {where} ({reason(error)}); expected RAY_ADDRESS to name one, and RAY_AUTH_MODE=token "
            "where it asks for a token, or to be unset for one that is started here."
        ) from error


def share_out(nodes: Sequence[Mapping[str, float]], workers: int | None) -> tuple[int, dict[str, float]]:
    """Share a cluster out among workers: its GPUs or, where it has none, its cores.

    Args:
        nodes: what each machine has, as Ray calls it.
        workers: how many workers; None for one per GPU or, where there is none, one per machine.

    Returns:
        How many workers, and the most that each can have on one machine, as Ray's arguments.

    Raises:
        InputError: if there are fewer GPUs or cores than workers.
    """
    gpus, cores = ([int(node[kind]) for node in nodes if node.get(kind, 0) >= 1] for kind in ("GPU", "CPU"))
    units, kind, argument = (gpus, "GPUs", "num_gpus") if gpus else (cores, "cores", "num_cpus")
    if workers is None:
        workers = sum(gpus) or len(cores)
    if not 1 <= workers <= sum(units):
        raise InputError(
            f"{workers} workers for the {sum(units)} {kind} of the Ray cluster; expected 1 to {sum(units)}."
        )
    share = max(share for share in range(1, max(units) + 1) if sum(unit // share for unit in units) >= workers)
    return workers, {argument: share}


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError("the engine ray needs Ray Data, which is not installed; pip install 'qbrm[ray]'.") from error


def _answer(call: Callable[[], object]) -> bytes:
    """What a call returns or raises; errors as answers, because Ray wraps those that are raised in its own traces."""
    try:
        return pickle.dumps(call())
    except InputError as error:
        return pickle.dumps(InputError(str(error)))
    except Exception as error:
        return pickle.dumps(WorkerError(f"a Ray worker failed with {reason(error)}"))


def _read(answer: bytes) -> Any:
    answered = pickle.loads(answer)
    if isinstance(answered, Exception):
        raise answered
    return answered
