"""The results as JSON for machines and as tables for people."""

from __future__ import annotations

from statistics import median

from rich.table import Table

from train.bench.measure import Result
from train.bench.ratios import Ratio, Target, best_padded, ratios
from train.bench.scales import Scale
from train.bench.scoring import Report
from train.bench.workload import SPREAD, Shape


def as_json(report: Report) -> dict[str, object]:
    scale, growth = report.scale, report.memory_growth
    return {
        "machine": {**report.machine, "matmul_flops_per_s": round(report.matmul_flops_per_s)},
        "model": {
            "name": scale.name,
            "dtype": str(scale.dtype).removeprefix("torch."),
            **scale.architecture,
        },
        "shapes": {shape.name: _shape_as_json(shape) for shape in scale.shapes},
        "rows_per_batch": scale.rows_per_batch,
        "floor": {
            "rows": report.floor_call.rows,
            "row_tokens": report.floor_call.row_tokens,
            "head_chunk": report.floor_head_chunk,
        },
        "peak_bytes": report.memory_method,
        "largest_difference_nats_per_token": report.largest_difference_nats,
        "results": [
            {
                "shape": result.shape.name,
                "contender": result.contender,
                "seconds": [round(s, 4) for s in result.seconds],
                "model_flops": result.model_flops,
                "peak_bytes": result.peak_bytes,
            }
            for result in report.results
        ],
        "ratios": {
            shape.name: {
                "best_padded": best_padded(_of(report, shape)).contender,
                **{ratio.name: _ratio_as_json(ratio) for ratio in _ratios(report, shape)},
            }
            for shape in scale.shapes
        },
        "memory_growth": {
            "shape": growth.shape,
            "gold_tokens": growth.gold_tokens,
            "ours_cold_peak_bytes": growth.peak_bytes,
            "fp32_logits_bytes": growth.logits_bytes,
        },
    }


def _shape_as_json(shape: Shape) -> dict[str, object]:
    return {
        "episodes": shape.num_episodes,
        "attempts": shape.num_attempts,
        "mean_tokens": {
            "prefix": shape.prefix_tokens,
            "guidance": shape.guidance_tokens,
            "gold": shape.gold_tokens,
        },
        "spread": SPREAD,
    }


def _ratio_as_json(ratio: Ratio) -> dict[str, float]:
    values = {"median": ratio.median, "min": min(ratio.values), "max": max(ratio.values)}
    return {name: round(value, 4) for name, value in values.items()}


def as_tables(report: Report) -> list[Table]:
    """One table of contenders and one of ratios for each shape."""
    tables = []
    for shape in report.scale.shapes:
        tables += [_contenders(report, shape), _ratio_table(report, shape)]
    growth = report.memory_growth
    short, long = growth.peak_bytes
    tables[-1].caption = (
        f"Contenders differ by at most {report.largest_difference_nats:.1g} nats on a token. "
        f"{growth.shape}: twice the gold tokens take ours_cold from {_gib(short)} to "
        f"{_gib(long)}, fp32 logits from {_gib(growth.logits_bytes[0])} to "
        f"{_gib(growth.logits_bytes[1])}."
    )
    return tables


def _contenders(report: Report, shape: Shape) -> Table:
    table = _table(
        f"{shape.name}: {report.scale.name} model, episodes × attempts "
        f"{shape.num_episodes} × {shape.num_attempts}, mean tokens {shape.prefix_tokens} : "
        f"{shape.guidance_tokens} : {shape.gold_tokens}",
        ("contender", "seconds", "least", "most", "model TFLOP", "of matmul rate", "peak memory"),
    )
    for result in _of(report, shape):
        middle = median(result.seconds)
        table.add_row(
            result.contender,
            *(f"{s:.3g}" for s in (middle, min(result.seconds), max(result.seconds))),
            f"{result.model_flops / 1e12:.3g}",
            f"{result.model_flops / middle / report.matmul_flops_per_s:.0%}",
            _gib(result.peak_bytes),
        )
    return table


def _ratio_table(report: Report, shape: Shape) -> Table:
    table = _table(
        f"{shape.name}: ratios in the same repeat", ("ratio", "median", "least", "most", "target")
    )
    for ratio in _ratios(report, shape):
        values = (ratio.median, min(ratio.values), max(ratio.values))
        target = _target(report.scale, shape, ratio)
        table.add_row(ratio.name, *(f"{value:.2f}" for value in values), target)
    return table


def _target(scale: Scale, shape: Shape, ratio: Ratio) -> str:
    target = scale.targets.get((shape.name, ratio.name))
    if target is None:
        return ""
    return f"{_limits(target)}: {'met' if target.is_met(ratio.median) else 'missed'}"


def _limits(target: Target) -> str:
    limits = (("≥", target.at_least), ("≤", target.at_most))
    return " ".join(f"{sign} {value:g}" for sign, value in limits if value is not None)


def _ratios(report: Report, shape: Shape) -> list[Ratio]:
    return ratios(_of(report, shape), report.matmul_flops_per_s)


def _of(report: Report, shape: Shape) -> list[Result]:
    return [result for result in report.results if result.shape == shape]


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for column in columns:
        is_text = column in ("contender", "ratio", "target")
        table.add_column(column, justify="left" if is_text else "right")
    return table


def _gib(num_bytes: int | None) -> str:
    return "?" if num_bytes is None else f"{num_bytes / 2**30:.2f} GiB"
