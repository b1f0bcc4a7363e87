"""The pooled Gaussians must be as good as fresh ones."""

import pytest
import torch

from hwaware.nn.weights import gaussian
from hwaware.nn.weights.gaussian import CHUNK, LARGEST, SMALLEST, fresh_gaussian, gaussian_blocks

CPU = torch.device("cpu")


def draw(n: int, block: int = 32_768) -> torch.Tensor:
    sizes = [block] * (n // block) + ([n % block] if n % block else [])
    return torch.cat(list(gaussian_blocks(sizes, CPU))).float()


def test_pool_is_a_standard_gaussian():
    z = gaussian.pool(LARGEST).double()
    n = len(z)
    assert abs(z.mean()) < 1e-6 and abs(z.var() - 1) < 1e-6  # standardised, not merely sampled
    chunks = z.view(-1, CHUNK)  # so is the ring of any layer
    assert chunks.mean(1).abs().max() < 1e-5 and (chunks.var(1) - 1).abs().max() < 1e-4
    assert abs((z**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    # Kolmogorov-Smirnov against the normal law, 0.1 % level.
    order = torch.special.ndtr(z.sort().values)
    assert (order - (torch.arange(n) + 0.5) / n).abs().max() < 1.95 / n**0.5


@pytest.mark.parametrize("n", [64, 10_000, 589_824])
def test_draws_have_the_moments_of_a_standard_gaussian(n):
    draws = torch.stack([draw(n) for _ in range(50)]).double()
    m = draws.numel()
    assert abs(draws.mean()) < 5 / m**0.5
    assert abs(draws.var() - 1) < 5 * (2 / m) ** 0.5
    assert abs((draws**4).mean() - 3) < 5 * (96 / m) ** 0.5


def test_draws_are_uncorrelated():
    n = 200_000
    draws = [draw(n) for _ in range(12)]
    correlation = torch.corrcoef(torch.stack(draws))
    off_diagonal = correlation[~torch.eye(12, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 5 / n**0.5
    assert off_diagonal.square().mean().sqrt() < 1.5 / n**0.5


def test_weights_of_a_layer_are_uncorrelated_over_steps():
    """The noise of one weight says nothing on its neighbour's: over many draws, not within one."""
    draws = torch.stack([draw(256) for _ in range(20_000)]).double()
    correlation = torch.corrcoef(draws.T)
    off_diagonal = correlation[~torch.eye(256, dtype=torch.bool)]
    assert off_diagonal.abs().max() < 6 / 20_000**0.5
    assert off_diagonal.square().mean().sqrt() < 1.2 / 20_000**0.5
    assert (draws.var(0) - 1).abs().max() < 6 * (2 / 20_000) ** 0.5


def test_seed_decides_and_the_generator_moves_on():
    torch.manual_seed(5)
    first, second = draw(1000), draw(1000)
    torch.manual_seed(5)
    assert torch.equal(draw(1000), first) and torch.equal(draw(1000), second)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("chunks", [8, 11, 64])
def test_no_value_repeats_within_a_layer_up_to_the_largest_ring(chunks):
    """One whole lap, wherever it starts: of a ring as large as the layer."""
    n = chunks * CHUNK
    assert torch.equal(draw(n, block=CHUNK).sort().values, gaussian.pool(n).float().sort().values)


def test_a_lap_starts_anywhere():
    assert len({draw(LARGEST, block=2**17)[0].item() for _ in range(8)}) > 1


def test_the_pool_is_as_large_as_the_largest_layer_needs_and_what_is_drawn_does_not_depend_on_it():
    gaussian.clear_pool()
    torch.manual_seed(5)
    small = draw(1000)
    assert len(gaussian._pool) == SMALLEST
    draw(9 * CHUNK - 3)
    assert len(gaussian._pool) == 9 * CHUNK and gaussian._pool.dtype == torch.float16
    draw(3 * LARGEST)
    assert len(gaussian._pool) == LARGEST
    torch.manual_seed(5)
    assert torch.equal(draw(1000), small)


@pytest.mark.parametrize("block", [32_768, LARGEST + 1000, 2 * LARGEST + 5])
def test_layers_and_blocks_larger_than_the_pool(block):
    n = 2 * LARGEST + 5
    z = draw(n, block)
    assert z.shape == (n,)
    assert abs(z.mean()) < 1e-3 and abs(z.var() - 1) < 1e-3


def test_large_layer_does_not_repeat_the_first_lap_in_place():
    z = draw(2 * LARGEST)
    assert abs(torch.corrcoef(z.view(2, -1))[0, 1]) < 5 / LARGEST**0.5


def test_fresh_draws_come_from_torch_and_the_switch_goes_back():
    with fresh_gaussian():
        torch.manual_seed(1)
        z = draw(1000)
        torch.manual_seed(1)
        assert torch.equal(z, torch.randn(1000))
    pooled = draw(1000)
    assert torch.isin(pooled, gaussian.pool(LARGEST).float()).all()
    with pytest.raises(RuntimeError), fresh_gaussian():
        raise RuntimeError
    assert torch.isin(draw(1000), gaussian.pool(LARGEST).float()).all()


def test_pool_made_in_inference_mode_serves_training():
    gaussian.clear_pool()
    with torch.inference_mode():
        draw(10)
    assert not gaussian.pool(10).is_inference()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_pool_made_under_autocast_is_the_same(dtype):
    gaussian.clear_pool()
    expected = gaussian.pool(9 * CHUNK)
    gaussian.clear_pool()
    with torch.autocast("cpu", dtype=dtype):
        for size in (1000, 2 * LARGEST + 5):  # grows, and goes over the end
            assert [len(z) for z in gaussian.gaussian_blocks([size], CPU)] == [size]
    assert torch.equal(gaussian.pool(9 * CHUNK), expected)
