import torch

from pclkd.training.memory_layout import keep_channels_last, placed


def networks() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv3d(3, 4, 3), torch.nn.BatchNorm3d(4), torch.nn.Conv3d(4, 2, 1), torch.nn.Conv2d(3, 5, 3)
    )


def test_only_3d_convolutions_are_rearranged_and_all_numbers_stay() -> None:
    network, before = networks(), networks()
    keep_channels_last(network)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))
    convolution = network[0].weight
    assert convolution.is_contiguous(memory_format=torch.channels_last_3d) and not convolution.is_contiguous()
    assert network[3].weight.is_contiguous()
    clips = torch.randn(2, 3, 4, 8, 8).to(memory_format=torch.channels_last_3d)
    said = network[0](clips)
    torch.testing.assert_close(said, before[0](clips))
    said.sum().backward()
    assert network[0].weight.grad is not None and network[0].weight.grad.stride() == convolution.stride()


def test_on_the_cpu_weights_lie_as_they_are() -> None:
    network = networks()
    assert placed(network, torch.device("cpu")) is network
    assert all(weight.is_contiguous() for weight in network.parameters())
