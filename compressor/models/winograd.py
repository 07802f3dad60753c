"""3x3 convolutions with a quarter of the multiplications: minimal filtering F(4x4, 3x3) of frozen layers.

Winograd, "Arithmetic complexity of computations" (1980); for networks Lavin and Gray, "Fast algorithms for
convolutional neural networks" (CVPR 2016), section 4. The polynomials are interpolated at 0, +-1/sqrt(2), +-sqrt(2) and
infinity instead of the paper's 0, +-1, +-2: in float32 that leaves a few millionths of the largest value as error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

TILE = 4
"""Pixels of a side of the tiles that the output is cut into; each is made of a patch of the input."""
PATCH = TILE + 2
_NUMBERS = PATCH * PATCH
_BYTES_AT_ONCE = 2.5e6  # of transformed patches: they and their products stay in a core's cache

_NEAR, _FAR = 0.5**0.5, 2**0.5
_WEIGHTS = (
    (1.0, 0.0, 0.0),
    *((1 / scale, point / scale, point**2 / scale) for point, scale in ((_NEAR, -1.5), (-_NEAR, -1.5))),
    *((1 / scale, point / scale, point**2 / scale) for point, scale in ((_FAR, 6.0), (-_FAR, 6.0))),
    (0.0, 0.0, 1.0),
)

Kernel = Callable[..., Tensor]
Compile = Callable[[Kernel, Sequence[Tensor]], Kernel]
"""From a function and tensors like those that it will get to the same function, faster."""


def uncompiled(kernel: Kernel, _examples: Sequence[Tensor]) -> Kernel:
    """Return the function as it is."""
    return kernel


def transform_patches(padded: Tensor, patches: Tensor) -> Tensor:
    """Fill ``patches`` with the transformed patches of images.

    Args:
        padded: (N, 4 T + 2, 4 U + 2, C), images of T x U tiles with a pixel of padding around them.
        patches: (N, T, U, 36, C).
    """
    high, wide = patches.shape[1:3]
    rows = _to_points([padded[:, row : row + TILE * high : TILE] for row in range(PATCH)])
    numbers: list[Tensor] = []
    for part in rows:
        numbers += _to_points([part[:, :, column : column + TILE * wide : TILE] for column in range(PATCH)])
    return patches.copy_(torch.stack(numbers, dim=3))


def transform_products(products: Tensor, bias: Tensor, maps: Tensor) -> Tensor:
    """Fill ``maps`` with a convolution's output.

    Args:
        products: (N, T, U, 36, K), transformed patches times transformed weights. bias: (K,).
        maps: (N, 4 T, 4 U, K).
    """
    images, high, wide, _, channels = products.shape
    columns = [_from_points([products[:, :, :, PATCH * row + column] for column in range(PATCH)]) for row in range(6)]
    rows = [_from_points([columns[row][pixel] for row in range(PATCH)]) for pixel in range(TILE)]
    lines = [torch.stack([rows[pixel][line] for pixel in range(TILE)], dim=3) for line in range(TILE)]
    output = torch.stack(lines, dim=2).view(images, TILE * high, TILE * wide, channels)
    return maps.copy_(output + bias)


def transform_weight(weight: Tensor) -> Tensor:
    """Return the transformed weight (36 K, C, 1, 1) of a 3x3 convolution's (K, C, 3, 3), computed in float64."""
    matrix = torch.tensor(_WEIGHTS, dtype=torch.float64, device=weight.device)
    transformed = matrix @ weight.detach().double() @ matrix.T
    outputs, inputs = weight.shape[:2]
    return transformed.permute(2, 3, 0, 1).reshape(_NUMBERS * outputs, inputs, 1, 1).to(weight.dtype).contiguous()


class WinogradConvolution(nn.Module):
    """A frozen convolution for one size of maps, by minimal filtering; anything else the convolution itself does.

    A batch is taken a few images at a time, always as many, so that an image's bits do not hang on its neighbours.

    Args:
        convolution: one that `is_suitable`. size: height and width of its maps. compiled: makes the two transforms
            fast; they are as slow as the sum itself without.

    Raises:
        whatever ``compiled`` does.
    """

    def __init__(self, convolution: nn.Conv2d, size: tuple[int, int], compiled: Compile = uncompiled) -> None:
        super().__init__()
        self.convolution = convolution
        self._size = size
        inputs, outputs = convolution.in_channels, convolution.out_channels
        high, wide = (-(-side // TILE) for side in size)
        self._images = _images_at_once(4 * _NUMBERS * high * wide * inputs)
        like = convolution.weight
        self._padded = (self._images, TILE * high + 2, TILE * wide + 2, inputs)
        self._patches = (self._images, high, wide, _NUMBERS, inputs)
        self._maps = (self._images, TILE * high, TILE * wide, outputs)
        bias = torch.zeros(outputs, dtype=like.dtype) if convolution.bias is None else convolution.bias.detach()
        self._bias = (bias,)  # in tuples: what can be computed anew is no part of the state
        self._product = (_product_with(transform_weight(like), self._patches),)
        with torch.no_grad():
            padded, patches = torch.zeros(self._padded, dtype=like.dtype), torch.zeros(self._patches, dtype=like.dtype)
            maps, products = torch.zeros(self._maps, dtype=like.dtype), self._product[0](patches)
            self._in = compiled(transform_patches, (padded, patches))
            self._out = compiled(transform_products, (products, bias, maps))

    def forward(self, images: Tensor) -> Tensor:
        """Return the convolution's output, within float tolerance.

        Args:
            images: (B, C, H, W) in any layout; the output (B, K, H, W) is channels last. No gradient passes.
        """
        if not self._takes(images):
            return functional.conv2d(images, self.convolution.weight, self.convolution.bias, padding=1)
        count, (height, width) = len(images), self._size
        maps = images.new_empty((-(-count // self._images) * self._images, *self._maps[1:]))
        padded, patches = images.new_zeros(self._padded), images.new_empty(self._patches)
        [bias], [product] = self._bias, self._product
        pixels = images.permute(0, 2, 3, 1)
        for first in range(0, count, self._images):
            part = pixels[first : first + self._images]
            padded[: len(part), 1 : height + 1, 1 : width + 1].copy_(part)
            self._in(padded, patches)
            self._out(product(patches), bias, maps[first : first + self._images])
        return maps[:count, :height, :width].permute(0, 3, 1, 2)

    def _takes(self, images: Tensor) -> bool:
        weight = self.convolution.weight
        return (
            images.shape[2:] == self._size
            and images.dtype == weight.dtype
            and images.device == weight.device
            and not (torch.is_grad_enabled() and (images.requires_grad or weight.requires_grad))
            and not torch.is_autocast_enabled(images.device.type)
        )


def is_suitable(module: nn.Module) -> bool:
    """Say whether a module is a dense 3x3 convolution in float32 on the CPU that keeps a map's size."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
        and module.padding in ("same", (1, 1))
        and module.padding_mode == "zeros"
        and module.weight.dtype == torch.float32
        and module.weight.device.type == "cpu"
        and not (module._forward_hooks or module._forward_pre_hooks or parametrize.is_parametrized(module))
    )


def _to_points(pixels: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Transform six neighbours: values of their polynomial at the six points."""
    one, two, three, four, five, six = pixels
    even, odd = five - 2 * three, _NEAR * (four - 2 * two)
    further_even, further_odd = five - 0.5 * three, _FAR * (four - 0.5 * two)
    return (
        one - 2.5 * three + five,
        even + odd,
        even - odd,
        further_even + further_odd,
        further_even - further_odd,
        two - 2.5 * four + six,
    )


def _from_points(values: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Transform products at the six points back into four pixels."""
    zero, near, near_minus, far, far_minus, infinity = values
    even, odd = near + near_minus, near - near_minus
    further_even, further_odd = far + far_minus, far - far_minus
    return (
        zero + even + further_even,
        _NEAR * odd + _FAR * further_odd,
        0.5 * even + 2 * further_even,
        _NEAR**3 * odd + _FAR**3 * further_odd + infinity,
    )


def _product_with(weight: Tensor, patches: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    """Return the product of transformed patches with the transformed weight: a 1x1 convolution of 36 groups."""
    images, high, wide, numbers, inputs = patches
    shape = (images, numbers * inputs, high, wide)
    one = ([0, 0], [1, 1], [1, 1], numbers)  # padding, stride, dilation, groups
    known = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    packs = known and weight.dtype == torch.float32
    if packs:  # once, instead of in each product
        weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *one, list(shape))

    def product(patches: Tensor) -> Tensor:
        answer: Tensor
        maps = patches.view(images, high, wide, numbers * inputs).permute(0, 3, 1, 2)
        if packs:
            answer = torch.ops.mkldnn._convolution_pointwise(maps, weight, None, *one, "none", [], "")
        else:
            answer = functional.conv2d(maps, weight, groups=numbers)
        return answer.permute(0, 2, 3, 1).reshape(images, high, wide, numbers, -1)

    return product


def _images_at_once(bytes_each: int) -> int:
    """Return how many images are transformed at a time: a power of two."""
    return 1 << max(0, int(_BYTES_AT_ONCE / bytes_each).bit_length() - 1)
