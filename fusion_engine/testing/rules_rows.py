"""Rules about rows and slots: what may depend on what."""

from typing import cast

import torch
from torch import Tensor, nn

from fusion_engine.components import Decoder, Encoder, PosteriorNetwork, TakesFeatures
from fusion_engine.testing.cases import NAN, Case
from fusion_engine.testing.observe import (
    Observed,
    call,
    drops,
    expect,
    finite,
    learn,
    mode,
    observe,
    same,
    same_learning,
)
from fusion_engine.testing.subject import Subject, make_case
from fusion_engine.values import Features, Posterior, Signal

FILL = "masked_fill before the first layer (self.pooled, self.tokens, fill): a product with zero keeps a NaN"
_NORMS = nn.modules.batchnorm._NormBase


def train_eval_agree(subject: Subject) -> None:
    """Training and eval mode give the same where nothing drops or normalises over the batch."""
    for module in subject.networks():
        if any(drops(m) or isinstance(m, _NORMS) for m in module.modules()):
            continue
        case = make_case(module)
        expected = observe(module, case).flat()
        with mode(module, True):
            found = observe(module, case).flat()
        same(found, expected, "it behaves differently in training mode, without dropout or batch norm")


def row_independence(subject: Subject) -> None:
    """In eval mode a row's output, and its sample, do not depend on the other rows nor on their order."""
    for module in subject.networks():
        case, other = make_case(module), make_case(module, seed=1)
        if other.present is not None and other.present.shape[1] > 1:
            other = other.with_present(
                other.present
                & (torch.arange(len(other)) % 2 == 0)[:, None].logical_or(torch.arange(other.present.shape[1]) == 0)
            )
        whole = observe(module, case)
        for row in (0, len(case) - 2):
            found = observe(module, case.keep(row, other))
            problem = f"row {row} of {len(case)} changes with the other rows"
            same(_row(found, row), _row(whole, row), problem, "normalise and attend within a row only")
        order = torch.tensor([3, 0, 4, 1, 2])[: len(case)]
        same(observe(module, case.take(order)).flat(), whole.take(order).flat(), "rows in another order change")


def _row(observed: Observed, row: int) -> dict[str, Tensor]:
    return observed.take(torch.tensor([row])).flat()


def batch_of_one(subject: Subject) -> None:
    """A batch of one row works in both modes, keeps its batch axis, and equals that row of a larger batch."""
    for module in subject.networks():
        case = make_case(module)
        one = case.take(torch.tensor([0]))
        expected = _row(observe(module, case), 0)
        with mode(module, True):
            trained = observe(module, one)
            for name, x in trained.values.items():
                expect(x.ndim > 0 and len(x) == 1, f"a batch of one loses its batch axis: {name} has {list(x.shape)}")
            finite(trained.flat(), "a batch of one in training mode")
        found = observe(module, one).flat()
        same(found, expected, "a batch of one differs from the same row in a larger batch", "name the axes you squeeze")


def token_lengths(subject: Subject) -> None:
    """Inputs with unequal numbers of tokens work."""
    for module in subject.networks():
        case = make_case(module, lengths=[2, 5, 1])
        finite(learn(module, case).outputs, "inputs with 2, 5 and 1 tokens")


def missing_slots(subject: Subject) -> None:
    """An absent input may hold anything, NaN included: it changes no output, no gradient and no statistic."""
    for wiring, module in enumerate(subject.networks()):
        m = len(make_case(module).features)
        for i in range(m if m > 1 else 0):
            _check_missing(subject, wiring, i)


def _check_missing(subject: Subject, wiring: int, i: int) -> None:
    case = make_case(subject.network(wiring))
    assert case.present is not None
    name = list(case.features)[i]
    column = torch.arange(case.present.shape[1]) == i
    some = case.with_present(case.present & ~(column & (torch.arange(len(case)) % 2 == 1)[:, None]))
    none = case.with_present(case.present & ~column)
    for gaps, where in ((some, "in some rows"), (none, "in every row")):
        _check_content(subject, wiring, gaps, f"what {name!r} holds where it is absent {where} changes the result")
    module = cast(TakesFeatures, subject.network(wiring))
    blank = Features.absent(len(case), module.inputs[name])
    stand_in = Case(case.noise, None, {**case.features, name: blank}, none.present)
    problem = f"Features.absent for {name!r} differs from an absent {name!r}"
    found, expected = observe(module, stand_in).flat(), observe(module, none).flat()
    same(found, expected, problem, "read `present`, not only the mask, and do not count tokens")


def _check_content(subject: Subject, wiring: int, case: Case, problem: str) -> None:
    """Compare a case with the same one whose absent and padded slots hold NaN, and large numbers."""
    for training in (False, True):
        learned = []
        for filled in (case, case.poisoned(1e3), case.poisoned(NAN)):
            module = subject.network(wiring)
            with mode(module, training):
                torch.default_generator.manual_seed(0)
                learned.append(learn(module, filled))
        for found in learned[1:]:
            same_learning(found, learned[0], problem, FILL)


def padding(subject: Subject) -> None:
    """Padding may hold anything, NaN included, and more of it changes nothing."""
    for wiring, module in enumerate(subject.networks()):
        case = make_case(module, ragged=True, lengths=[2, 5, 3])
        if isinstance(module, Encoder):
            if case.signal is None or case.signal.mask is None:
                continue
            case = _short(case)
        elif isinstance(module, Decoder):
            case = Case(case.noise, _unpadded(case.signal), case.features, None, case.z)
        if case.features or isinstance(module, Encoder):
            _check_content(subject, wiring, case, "what padding holds changes the result")
            _check_longer(subject, wiring, case)


def _short(case: Case) -> Case:
    """Cut a signal so that padding can be added without making it longer than the modality allows."""
    assert case.signal is not None
    assert case.signal.mask is not None
    lengths = case.signal.mask.sum(1)
    longest = case.signal.mask.shape[1]
    kept = (lengths < longest).nonzero().flatten()
    return case if len(kept) < 2 else _trimmed(case.take(kept), int(lengths[kept].max()))


def _trimmed(case: Case, n: int) -> Case:
    assert case.signal is not None
    return Case(case.noise, case.signal.map(lambda x: x[:, :n]))


def _unpadded(signal: Signal | None) -> Signal | None:
    return None if signal is None else Signal(signal.filled(), signal.mask, signal.position)


def _check_longer(subject: Subject, wiring: int, case: Case) -> None:
    module = subject.network(wiring)
    longest = module.modality.example(1).data.shape[1] if isinstance(module, Encoder) else None
    extra = 3 if longest is None or case.signal is None else longest - case.signal.data.shape[1]
    longer = case.padded(min(extra, 3)) if case.z is None else _longer_conditions(case)
    for training in (False, True):
        found, expected = (subject.network(wiring) for _ in range(2))
        with mode(found, training), mode(expected, training):
            same_learning(learn(found, longer), learn(expected, case), "more padding changes the result", FILL)


def _longer_conditions(case: Case) -> Case:
    return Case(case.noise, case.signal, case.padded(3).features, None, case.z)


def likelihood_masked(subject: Subject) -> None:
    """Padding of the signal whose log_prob is asked for may hold anything, NaN included, and adds nothing."""
    if not subject.target.density:
        return
    for wiring, module in enumerate(subject.networks()):
        case = make_case(module)
        if case.signal is None or case.signal.mask is None:
            continue
        fix = "the batch shape is [*k b n] where there is a mask: fill the data, then mask each step's log_prob"
        problem = "what the signal's padding holds changes log_prob"
        expected = learn(module, case)
        same_learning(learn(subject.network(wiring), case.poisoned(NAN)), expected, problem, fix)
        same_learning(learn(subject.network(wiring), case.poisoned(1e3)), expected, problem, fix)
        short = _short(Case(case.noise, case.signal))
        rows = short.noise.index
        cut = Case(
            short.noise, short.signal, {n: f.take(rows) for n, f in case.features.items()}, None, _rows(case, rows)
        )
        log_prob = call(module, cut).log_prob
        found, whole = log_prob(case.signal.take(rows)), log_prob(short.signal)
        same({"log_prob": found}, {"log_prob": whole}, "more padding of the signal changes log_prob", fix)


def _rows(case: Case, rows: Tensor) -> Tensor:
    assert case.z is not None
    return case.z[rows]


def sample_axes(subject: Subject) -> None:
    """Leading axes *k of z pass through: each slice decodes as it does alone, and log_prob is [*k b]."""
    for module in subject.networks():
        case = make_case(module)
        for lead in ((3,), (2, 2)):
            z = torch.randn(
                *lead, *_rows(case, torch.arange(len(case))).shape, generator=torch.Generator().manual_seed(5)
            )
            found = observe(module, Case(case.noise, case.signal, case.features, None, z))
            for index in torch.cartesian_prod(*[torch.arange(k) for k in lead]).reshape(-1, len(lead)).tolist():
                alone = observe(module, Case(case.noise, case.signal, case.features, None, z[tuple(index)]))
                _check_slice(found, alone, index)


def _check_slice(found: Observed, alone: Observed, index: list[int]) -> None:
    names = [n for n in alone.values if "sample" not in n]
    chosen = {n: found.values[n].movedim(0, len(index))[tuple(index)] for n in names}
    problem = f"with sample axes, slice {index} of z decodes differently"
    same(chosen, {n: alone.values[n] for n in names}, problem, "fold them with over_samples")


def nothing_present(subject: Subject) -> None:
    """A row with nothing present, or with no valid slot, gives finite output; a posterior gives its prior."""
    for wiring, module in enumerate(subject.networks()):
        case = _emptied(module, make_case(module))
        if case is None:
            continue
        fix = "guard what divides by a count, and attention whose keys are all masked"
        for training in (False, True):
            module = subject.network(wiring)
            with mode(module, training):
                learned = learn(module, case.poisoned(NAN))
            finite(learned.outputs, "a row with nothing present", fix)
            finite(learned.gradients, "a row with nothing present: the gradient of", fix)
        _finite_value(call(module, case), fix)
        if isinstance(module, PosteriorNetwork):
            _check_prior(call(module, case))


def _emptied(module: nn.Module, case: Case) -> Case | None:
    """Take everything from row 1."""
    row = (torch.arange(len(case)) == 1)[:, None]
    if isinstance(module, TakesFeatures) and case.present is not None:
        return case.with_present(case.present & ~row)
    if isinstance(module, Encoder) and case.signal is not None and case.signal.mask is not None:
        s = case.signal
        return Case(case.noise, Signal(s.data, s.mask & ~row, s.position))  # type: ignore[operator]
    return None


def _finite_value(value: object, fix: str) -> None:
    """Check what is hidden from the comparisons: components of weight zero are decoded too."""
    if isinstance(value, Posterior):
        finite({"z": value.z, "weights": value.weights}, "a row with nothing present", fix)


def _check_prior(value: Posterior) -> None:
    kl = (
        torch.where(value.weights > 0, value.weights * value.kl(), 0.0).flatten(0, -2).sum(0)
        if value.z.ndim > 2
        else value.kl()
    )
    found = float(kl[1].detach())
    expect(abs(found) < 1e-3, f"a row with nothing present does not have the prior: its KL is {found:.3g}")
