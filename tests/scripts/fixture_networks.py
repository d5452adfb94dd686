"""Modules of whole layers: convolutions, pooling, resampling, recurrence, transforms, graphs inside graphs (see make_fixtures.py)."""
import torch
import torch.nn.functional as F
from fixture_modules import module
from torch import nn
from torch._higher_order_ops.scan import scan
from torch.export import Dim


@module("convolutions", {"x": {2: Dim("h", min=6, max=20)}}, forms=("model",), note="groups, dilation, names of padding, transposed")
class Convolutions(nn.Module):
    def __init__(self):
        super().__init__()
        self.strided = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.same = nn.Conv2d(8, 4, 4, padding="same", dilation=2, bias=False)
        self.up = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.line = nn.Conv1d(6, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        x = self.up(self.same(F.relu(self.wide(self.strided(x)))))
        return x, self.line(x[0, :, :, 0])

    def calls(self):
        return [(torch.randn(2, 3, h, 5),) for h in (9, 6, 20)]


@module("grouped_conv3d", forms=("model",))
class GroupedConv3d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(4, 6, 2, groups=2)
        self.up = nn.ConvTranspose3d(6, 2, 2, stride=2, groups=2)

    def forward(self, x):
        return self.up(self.conv(x))

    def calls(self):
        return [(torch.randn(1, 4, 3, 4, 3),)]


@module("pooling", {"x": {2: Dim("h", min=6, max=20)}}, forms=("model",))
class Pooling(nn.Module):
    def forward(self, x):
        most, where = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        mean = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return most, where, mean, F.adaptive_avg_pool2d(x, (3, 2)), F.adaptive_max_pool2d(x, 1)

    def calls(self):
        return [(torch.randn(2, 3, h, 7),) for h in (9, 6, 20)]


@module("resampling", {"x": {2: Dim("h", min=2, max=12)}}, forms=("model",))
class Resampling(nn.Module):
    def forward(self, x):
        near = F.interpolate(x, scale_factor=2.0, mode="nearest")
        linear = F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=False)
        cubic = F.interpolate(x, size=(5, 4), mode="bicubic", align_corners=True)
        return near, linear, cubic

    def calls(self):
        return [(torch.randn(1, 2, h, 6),) for h in (5, 2, 12)]


@module("grid_sample", forms=("model",))
class GridSample(nn.Module):
    def forward(self, x, theta):
        grid = F.affine_grid(theta, (2, 3, 4, 5), align_corners=False)
        zeros = F.grid_sample(x, grid, align_corners=False)
        mirrored = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=True)
        return zeros, mirrored

    def calls(self):
        return [(torch.randn(2, 3, 6, 5), torch.randn(2, 2, 3))]


@module("recurrence", {"x": {0: Dim("b", min=1, max=6)}}, forms=("model",), note="LSTM both ways, GRU, a plain network, a cell")
class Recurrence(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(10, 4, batch_first=True)
        self.rnn = nn.RNN(4, 3, nonlinearity="relu", batch_first=True)
        self.cell = nn.LSTMCell(3, 3)

    def forward(self, x):
        x, (h, c) = self.lstm(x)
        x, _ = self.gru(x)
        x, last = self.rnn(x)
        return x, h, c, *self.cell(x[:, 0], (last[0], last[0]))

    def calls(self):
        return [(torch.randn(b, 3, 4),) for b in (2, 1, 6)]


@module("spectra", forms=("model",), note="short-time transforms and back, complex arithmetic, sizes with factors")
class Spectra(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.register_buffer("turn", torch.polar(torch.ones(9, 1), torch.randn(9, 1)))

    def forward(self, x):
        spectrum = torch.stft(x, 16, 4, window=self.window, return_complex=True)
        turned = spectrum * self.turn
        back = torch.istft(spectrum, 16, 4, window=self.window, length=x.shape[1])
        filtered = torch.fft.irfft(torch.fft.rfft(x) * 0.5, n=x.shape[1])
        return turned.abs(), torch.view_as_real(turned.conj() * 1.0), back, filtered, torch.fft.fft2(x).real

    def calls(self):
        return [(torch.randn(2, 60),)]


@module("blocks", forms=("model",))
class Blocks(nn.Module):
    def forward(self, x):
        columns = F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1))
        return columns, F.fold(columns, x.shape[-2:], (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1))

    def calls(self):
        return [(torch.randn(2, 3, 8, 9),)]


@module("branches_and_loops", forms=("model",), note="cond, nested; scan")
class BranchesAndLoops(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        def yes(x):
            return torch.cond(x.amax() > 2, lambda x: x - 1, lambda x: self.linear(x), (x,))

        chosen = torch.cond(x.sum() > 0, yes, lambda x: x.sin(), (x,))
        last, all_of_them = scan(lambda carry, row: (carry * 0.5 + row, carry + row), torch.zeros(4), chosen, dim=0)
        return chosen, last, all_of_them

    def calls(self):
        return [(x,) for x in (torch.ones(3, 4), torch.full((3, 4), 3.0), -torch.ones(3, 4))]


@module("convolutional_network", {"x": {0: Dim("b", min=1, max=3)}}, forms=("model", "core"), note="batch norms, kernels of one position, residual sums, pooling to one place, a rolled image")
class ConvolutionalNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 16, 1, bias=False)
        self.wide_norm = nn.BatchNorm2d(16)
        self.back = nn.Conv2d(16, 8, 1)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.head = nn.Linear(8, 5)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.copy_(torch.randn_like(part.running_mean))
                part.running_var.copy_(torch.rand_like(part.running_var) + 0.5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem_norm(self.stem(x))), 3, 2, 1)
        y = F.relu6(self.wide_norm(self.wide(x)))
        x = torch.roll(x, (-1, 2), (2, 3)) + self.back(y) * self.scale
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def calls(self):
        return [(torch.randn(b, 3, 8, 8),) for b in (2, 1, 3)]


@module("spectrum_of_any_length", {"x": {1: Dim("n", min=1, max=12)}}, forms=("model",))
class SpectrumOfAnyLength(nn.Module):
    def forward(self, x):
        half = torch.fft.rfft(x, dim=1)
        return torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real, torch.view_as_real(half)

    def calls(self):
        return [(torch.randn(2, n, 4),) for n in (7, 1, 8, 12)]


@module("sizes_of_slices", {"x": {1: Dim("n", min=2, max=12)}}, forms=("model",), note="a table is cut to a length that a tensor on the way holds, as DeBERTa's relative positions are")
class SizesOfSlices(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(16, 4))

    def forward(self, x):
        span = torch.tensor(min(x.shape[1], 8))
        start, stop = (8 - span).item(), (8 + span).item()
        torch._check(start >= 0)
        torch._check(stop <= 16)
        torch._check(stop - start >= 2)
        part = self.table[start:stop]
        return x @ part.mean(0)[:, None], part * 2

    def calls(self):
        return [(torch.randn(1, n, 4),) for n in (5, 2, 8, 12)]
