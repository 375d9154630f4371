"""The mean of the last checkpoints: of weights and statistics, and resumable."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from kws.train.checkpoints import LastCheckpoints  # noqa: E402
from kws.train.net import KeywordNet  # noqa: E402
from kws.train.recipe import NetworkSettings  # noqa: E402

SETTINGS = NetworkSettings(channels=4, kernel=2, dilations=(1,), stem_kernel=2)


def network(seed: int) -> KeywordNet:
    torch.manual_seed(seed)
    return KeywordNet(SETTINGS, frame_size=6, n_keywords=2).eval()


def last_of(networks: list[KeywordNet], most: int) -> LastCheckpoints:
    last = LastCheckpoints(most)
    for net in networks:
        last.add(net)
    return last


def test_weights_are_averaged_over_the_last_ones() -> None:
    nets = [network(seed) for seed in range(3)]
    last = last_of(nets, most=2)
    assert len(last) == 2
    mean = last.mean(nets[2])
    for name, weight in mean.named_parameters():
        expected = (nets[1].get_parameter(name) + nets[2].get_parameter(name)) / 2
        assert torch.allclose(weight, expected)


def test_statistics_are_averaged_too_and_the_checkpoints_stay_as_they_were() -> None:
    nets = [network(seed) for seed in range(2)]
    for number, net in enumerate(nets):
        net.stem.norm.running_mean.fill_(number)
    before = {name: t.clone() for name, t in nets[1].state_dict().items()}
    mean = last_of(nets, most=2).mean(nets[1])
    assert torch.equal(mean.stem.norm.running_mean, torch.full((4,), 0.5))
    assert all(torch.equal(t, before[name]) for name, t in nets[1].state_dict().items())


def test_a_checkpoint_does_not_follow_its_network() -> None:
    net = network(0)
    last = last_of([net], most=3)
    bias = net.head.bias.detach().clone()
    with torch.no_grad():
        net.head.bias += 1
    assert torch.equal(last.mean(net).head.bias, bias)


def test_state_goes_on_where_it_was() -> None:
    nets = [network(seed) for seed in range(3)]
    again = LastCheckpoints(2)
    again.load_state_dict(last_of(nets[:2], most=2).state_dict())
    again.add(nets[2])
    mean, expected = (last.mean(nets[2]) for last in (again, last_of(nets, most=2)))
    assert all(torch.equal(t, mean.state_dict()[name]) for name, t in expected.state_dict().items())
