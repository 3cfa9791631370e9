#!/usr/bin/env python3
"""make_onnx_fixtures.py: small networks of the shapes that real encoders have, with ONNX Runtime's outputs beside them.

Writes onnx/NAME.onnx, onnx/NAME.in.f32 (the input, NCHW as the graph takes it) and onnx/NAME.out.f32. Needs torch, onnx,
onnxruntime and onnxconverter-common; the results are kept in the tree.
"""
import inspect, pathlib
import numpy as np
import onnx
import onnxruntime
import torch
from onnxconverter_common import float16
from onnxruntime import quantization
from onnx import TensorProto, helper, numpy_helper
from torch import nn
import torch.nn.functional as F

out = pathlib.Path(__file__).parent / "onnx"
out.mkdir(exist_ok=True)
legacy = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}


def keep(name, model, x):
    path = out / f"{name}.onnx"
    onnx.save(model, str(path)) if model is not None else None
    y = onnxruntime.InferenceSession(str(path)).run(None, {onnxruntime.InferenceSession(str(path)).get_inputs()[0].name: x})[0]
    x.astype("<f4").tofile(out / f"{name}.in.f32")
    y.astype("<f4").tofile(out / f"{name}.out.f32")
    print(name, path.stat().st_size, y.shape)


def export(name, net, size, opset=13, fold=True):
    torch.manual_seed(len(name))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, .3), m.running_var.uniform_(.5, 2), nn.init.uniform_(m.weight, .5, 1.5), nn.init.normal_(m.bias, 0, .3)
    net.eval()
    x = torch.randn(1, 3, *size)
    kw = {} if fold else {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    torch.onnx.export(net, x, str(out / f"{name}.onnx"), input_names=["image"], output_names=["out"], opset_version=opset, **kw, **legacy)
    keep(name, None, x.numpy())


def cbr(i, o, k=3, s=1, g=1, act=nn.ReLU, **kw):
    return nn.Sequential(nn.Conv2d(i, o, k, s, kw.pop("p", k // 2), groups=g, bias=False, **kw), nn.BatchNorm2d(o), *([act()] if act else []))


class Res(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.d, self.fc = cbr(3, 16, 7, 2), cbr(16, 24, 3, 2), cbr(24, 24, act=None), cbr(16, 24, 1, 2, act=None), nn.Linear(24, 20)
        self.e, self.f = cbr(24, 24), cbr(24, 24, act=None)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        x = F.relu(self.b(self.a(x)) + self.d(x))
        x = F.relu(x + self.f(self.e(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inverted(nn.Module):
    def __init__(self, act=nn.ReLU6):
        super().__init__()
        self.stem = cbr(3, 12, 3, 2, act=act)
        self.x1, self.d1, self.p1 = cbr(12, 50, 1, act=act), cbr(50, 50, 3, 1, 50, act=act), cbr(50, 12, 1, act=None)
        self.x2, self.d2, self.p2 = cbr(12, 37, 1, act=act), cbr(37, 37, 5, 2, 37, act=act), cbr(37, 18, 1, act=None)
        self.fc = nn.Linear(18, 10)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.p1(self.d1(self.x1(x)))
        x = self.p2(self.d2(self.x2(x)))
        return self.fc(x.mean([2, 3]))


class Squeeze(nn.Module):
    def __init__(self, inner, gate):
        super().__init__()
        self.stem, self.r, self.e, self.inner, self.gate, self.last = cbr(3, 20, 3, 2, act=inner), nn.Conv2d(20, 6, 1), nn.Conv2d(6, 20, 1), inner, gate(), cbr(20, 33, 1, act=inner)

    def forward(self, x):
        x = self.stem(x)
        s = self.gate(self.e(F.relu(self.r(F.adaptive_avg_pool2d(x, 1)))))
        return F.adaptive_avg_pool2d(self.last(x * s), 1).flatten(1)


class Dense(nn.Module): # batch norm before convolution, concatenation, average pools with odd windows
    def __init__(self):
        super().__init__()
        self.stem, self.n1, self.c1, self.n2, self.c2 = nn.Conv2d(3, 13, 3, 1, 1), nn.BatchNorm2d(13), nn.Conv2d(13, 7, 3, 1, 1), nn.BatchNorm2d(20), nn.Conv2d(20, 9, 1)

    def forward(self, x):
        x = self.stem(x)
        x = torch.cat([x, self.c1(F.relu(self.n1(x)))], 1)
        x = F.avg_pool2d(self.c2(F.relu(self.n2(x))), 3, 2, 1, count_include_pad=True)
        x = torch.cat([F.avg_pool2d(x, 2, 2, 0, ceil_mode=True, count_include_pad=False), F.max_pool2d(x, 2, 2, 0, ceil_mode=True)], 1)
        return x.flatten(1)


class Shuffle(nn.Module): # groups, dilation, channel shuffle, split
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 24, 3, 2, 1), nn.Conv2d(24, 36, 3, 1, 2, dilation=2, groups=4), nn.Conv2d(18, 18, 3, 1, 1, groups=18)

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x))))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        l, r = x.chunk(2, 1)
        x = torch.cat([l, F.relu(self.c(r))], 1)
        return F.adaptive_avg_pool2d(F.pad(x, (1, 2, 0, 1)), 1).flatten(1)


class Attention(nn.Module): # a patch transformer's block: LayerNorm, MatMul, Softmax, Gelu
    def __init__(self):
        super().__init__()
        self.patch, self.norm, self.qkv, self.proj = nn.Conv2d(3, 24, 8, 8), nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.m, self.n2 = nn.Sequential(nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24)), nn.LayerNorm(24)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).reshape(1, -1, 3, 2, 12).permute(2, 0, 3, 1, 4).unbind(0)
        a = ((q @ k.transpose(-2, -1)) * 12 ** -.5).softmax(-1)
        x = x + self.proj((a @ v).transpose(1, 2).reshape(1, -1, 24))
        x = x + self.m(self.n2(x))
        return F.normalize(x.mean(1), dim=1)


class Chain(nn.Module):
    """Pictures between the steps that are too large to keep: 40 x 36 x 256 floats, and windows of every kind over them."""
    def __init__(self):
        super().__init__()
        self.stem, self.a = cbr(3, 12, 3), nn.Sequential(cbr(12, 256, 1), cbr(256, 256, 3, g=256), cbr(256, 256, 3, g=256, p=2, dilation=2), cbr(256, 12, 1, act=None))
        self.b = nn.Sequential(cbr(12, 260, 1, act=nn.SiLU), nn.MaxPool2d(3, 1, 1), cbr(260, 260, 5, 3, g=260, p=1, act=nn.SiLU), cbr(260, 20, 1))
        self.c = nn.Sequential(cbr(12, 250, 3, p=0), nn.AvgPool2d(2, 2, 1), cbr(250, 20, 1, 2))

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(x + self.a(x))
        return torch.cat([self.b(x).mean((2, 3)), self.c(x).mean((2, 3))], 1)


class Blocks(nn.Module):
    """3 x 3 of stride 1 with channels enough for Winograd's tiles, which the picture does not fill."""
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = cbr(3, 18, 3, 2), cbr(18, 37), cbr(37, 37, act=None), cbr(37, 35, act=nn.SiLU, p=0)

    def forward(self, x):
        x = self.b(self.a(x))
        x = self.d(F.relu(x + self.c(x)))
        return x[:, :, 1:4, 2:5].flatten(1)


class Added(nn.Module):
    """So many pixels that convolutions follow each other by rows, and one adds what lies two steps back among them."""
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = cbr(3, 190, 3), cbr(190, 190, 3, g=190), cbr(190, 190, 1, act=None), cbr(190, 9, 3, 2)

    def forward(self, x):
        x = self.a(x)
        return self.d(x + self.c(self.b(x))).mean((2, 3))


class Inception(nn.Module):
    """Parts that can be written where the concat wants them, and parts that cannot: read twice, pooled, or concatenated again."""
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.b, self.c = cbr(3, 20, 3, 2), cbr(20, 17, 1), nn.Sequential(cbr(20, 16, 1), cbr(16, 33)), cbr(20, 9, 5)
        self.d, self.e = cbr(79, 21, 1), cbr(79, 18, 3, 2)

    def forward(self, x):
        x = self.stem(x)
        c = self.c(x)
        y = torch.cat([self.a(x), self.b(x), x, c], 1)
        z = torch.cat([self.d(y), y, c], 1)
        return torch.cat([z.mean((2, 3)), self.e(y).mean((2, 3))], 1)


class Gated(nn.Module):
    """Squeeze and excite over many pixels, before a convolution of few channels."""
    def __init__(self):
        super().__init__()
        self.a, self.b = cbr(3, 34, 3, act=nn.SiLU), cbr(34, 34, 3, g=34, act=nn.SiLU)
        self.down, self.up, self.out = nn.Conv2d(34, 5, 1), nn.Conv2d(5, 34, 1), cbr(34, 7, 1, act=None)

    def forward(self, x):
        x = self.b(self.a(x))
        x = x * torch.sigmoid(self.up(F.silu(self.down(F.adaptive_avg_pool2d(x, 1)))))
        return self.out(x)[:, :, 5:8, 30:33].flatten(1)


class Classes(nn.Module):
    """Ends in probabilities: the features before them are the embedding."""
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.fc = cbr(3, 14, 3, 2), cbr(14, 22, 3, 2), nn.Linear(22, 7)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(self.a(self.stem(x)), 1).flatten(1)).softmax(1)


class Map(nn.Module):
    """Ends in a feature map, behind a sum by channel that no convolution takes in."""
    def __init__(self):
        super().__init__()
        self.stem, self.a, self.shift = cbr(3, 14, 3, 2), cbr(14, 18, 3), nn.Parameter(torch.randn(1, 14, 1, 1))

    def forward(self, x):
        return self.a(F.hardswish(F.avg_pool2d(self.stem(x), 2) + self.shift))


class Parts(nn.Module):
    """Activations spelt out, in the orders that exporters write."""
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = cbr(3, 10, 3, 2, act=None), cbr(10, 14, 3, act=None), cbr(14, 11, 3, act=None), cbr(11, 9, 3, 2, act=None)

    def forward(self, x):
        x = self.a(x)
        x = self.b(x * F.relu6(x + 3) / 6)
        x = self.c(x * (F.relu6(3 + x) / 6))
        x = self.d(x * (F.relu6(x + 3) * (1 / 6)))
        return (F.relu6(x + 3) / 6 * x).mean((2, 3))


export("residual", Res(), (40, 36))
export("parts", Parts(), (26, 22))
export("classes", Classes(), (26, 22))
export("map", Map(), (26, 22), opset=14)
export("chain", Chain(), (40, 36))
export("added", Added(), (41, 36))
export("blocks", Blocks(), (43, 38))
export("inception", Inception(), (31, 26))
export("gated", Gated(), (24, 36))
export("residual_unfolded", Res(), (40, 36), opset=11, fold=False)
export("inverted", Inverted(), (33, 31))
export("inverted_swish", Inverted(nn.SiLU), (32, 32), opset=12)
export("squeeze_hardswish", Squeeze(nn.Hardswish, nn.Hardsigmoid), (32, 24), opset=13)
export("squeeze_hardswish14", Squeeze(nn.Hardswish, nn.Sigmoid), (32, 24), opset=14)
export("squeeze_swish", Squeeze(nn.SiLU, nn.Sigmoid), (32, 24), opset=15)
export("dense", Dense(), (18, 15))
export("shuffle", Shuffle(), (28, 20), opset=16)
export("attention", Attention(), (32, 24), opset=17)
export("attention11", Attention(), (32, 24), opset=11)

# As Keras exports: channels last at the door, SAME padding, a Pad node, bias and scale as separate nodes.
r = np.random.default_rng(3)
w1, w2 = r.normal(0, .3, (11, 3, 3, 3)).astype("f4"), r.normal(0, .3, (9, 11, 3, 3)).astype("f4")
init = [numpy_helper.from_array(v, n) for n, v in [
    ("w1", w1), ("w2", w2), ("bias", r.normal(0, 1, (1, 11, 1, 1)).astype("f4")), ("scale", r.uniform(.5, 2, (11, 1, 1)).astype("f4")),
    ("pads", np.array([0, 0, 0, 0, 0, 0, 1, 1])), ("shape", np.array([1, -1])), ("six", np.array(6, "f4")), ("zero", np.array(0, "f4"))]]
nodes = [helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
         helper.make_node("Conv", ["t", "w1"], ["c1"], auto_pad="SAME_UPPER", strides=[2, 2]),
         helper.make_node("Add", ["c1", "bias"], ["a1"]), helper.make_node("Mul", ["a1", "scale"], ["m1"]),
         helper.make_node("Clip", ["m1", "zero", "six"], ["r1"]), helper.make_node("Pad", ["r1", "pads"], ["p1"]),
         helper.make_node("Conv", ["p1", "w2"], ["c2"], strides=[2, 2]), helper.make_node("Tanh", ["c2"], ["h"]),
         helper.make_node("Transpose", ["h"], ["n"], perm=[0, 2, 3, 1]), helper.make_node("Reshape", ["n", "shape"], ["out"])]
graph = helper.make_graph(nodes, "keras", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 17, 19, 3])],
                          [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], init)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
model.ir_version = 8
keep("keras", model, r.normal(0, 1, (1, 17, 19, 3)).astype("f4"))


# In 8 bits and in half precision, as the usual tools write them.
class Pictures(quantization.CalibrationDataReader):
    def __init__(self, name):
        self.left = iter([np.random.default_rng(k).normal(0, 1, np.fromfile(out / f"{name}.in.f32", "<f4").shape).astype("f4") for k in range(8)])
        self.shape = [d.dim_value for d in onnx.load(str(out / f"{name}.onnx")).graph.input[0].type.tensor_type.shape.dim]

    def get_next(self):
        x = next(self.left, None)
        return None if x is None else {"image": x.reshape(self.shape)}


def quantise(name, source, form, activations):
    quantization.quantize_static(str(out / f"{source}.onnx"), str(out / f"{name}.onnx"), Pictures(source), quant_format=form, per_channel=True,
                                 weight_type=quantization.QuantType.QInt8, activation_type=activations)
    x = np.fromfile(out / f"{source}.in.f32", "<f4").reshape(Pictures(source).shape)
    keep(name, None, x)


quantise("int8_operators", "residual", quantization.QuantFormat.QOperator, quantization.QuantType.QUInt8)
quantise("int8_pairs", "inverted", quantization.QuantFormat.QDQ, quantization.QuantType.QUInt8)
quantise("int8_signed", "squeeze_hardswish14", quantization.QuantFormat.QDQ, quantization.QuantType.QInt8)
quantization.quantize_dynamic(str(out / "dense.onnx"), str(out / "int8_dynamic.onnx"), weight_type=quantization.QuantType.QUInt8)
keep("int8_dynamic", None, np.fromfile(out / "dense.in.f32", "<f4").reshape(Pictures("dense").shape))
onnx.save(float16.convert_float_to_float16(onnx.load(str(out / "residual.onnx"))), str(out / "half.onnx"))
keep("half", None, np.fromfile(out / "residual.in.f32", "<f4").reshape(Pictures("residual").shape).astype("f2"))

# The operators over 8 bits that only ONNX Runtime's own domain has.
r = np.random.default_rng(9)
init, nodes = [], []


def grid(name, scale, zero, dtype="u1"):
    init.extend([numpy_helper.from_array(np.array(scale, "f4"), name + "_s"), numpy_helper.from_array(np.array(zero, dtype), name + "_z")])
    return [name + "_s", name + "_z"]


def theirs(op, inputs, output, **attributes):
    nodes.append(helper.make_node(op, inputs, [output], domain="com.microsoft", **attributes))


image, a, lk, sg, ml, av, cc, ad, gp, fc, sm = (grid(n, s, z) for n, s, z in [
    ("image", .03, 120), ("a", .02, 110), ("lk", .015, 30), ("sg", 1 / 256, 0), ("ml", .012, 20), ("av", .01, 25), ("cc", .012, 25), ("ad", .02, 40),
    ("gp", .01, 30), ("fc", .02, 128), ("sm", 1 / 256, 0)])
w, g = grid("w", .01, 0, "i1"), grid("g", .01, 0, "i1")
init += [numpy_helper.from_array(r.integers(-90, 90, (10, 3, 3, 3)).astype("i1"), "w"), numpy_helper.from_array(r.integers(-90, 90, (20, 6)).astype("i1"), "g"),
         numpy_helper.from_array(r.integers(-2000, 2000, 6).astype("i4"), "gb")]
theirs("QuantizeLinear", ["image"] + image, "q")
nodes.append(helper.make_node("QLinearConv", ["q"] + image + ["w"] + w + a, ["a"], strides=[2, 2]))
theirs("QLinearLeakyRelu", ["a"] + a + lk, "lk", alpha=.1)
theirs("QLinearSigmoid", ["lk"] + lk + sg, "sg")
theirs("QLinearMul", ["lk"] + lk + ["sg"] + sg + ml, "ml")
theirs("QLinearAveragePool", ["ml"] + ml + av, "av", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
theirs("QLinearConcat", cc + ["av"] + av + ["lk"] + lk, "cc", axis=1)
theirs("QLinearAdd", ["cc"] + cc + ["cc"] + cc + ad, "ad")
theirs("QLinearGlobalAveragePool", ["ad"] + ad + gp, "gp", channels_last=0)
nodes.append(helper.make_node("Flatten", ["gp"], ["fl"]))
theirs("QGemm", ["fl"] + gp + ["g"] + g + ["gb"] + fc, "fc")
theirs("QLinearSoftmax", ["fc"] + fc + sm, "sm", axis=-1, opset=13)
theirs("DequantizeLinear", ["sm"] + sm, "y1")
theirs("DequantizeLinear", ["fl"] + gp, "y2")
theirs("Gelu", ["y2"], "y3")
nodes.append(helper.make_node("Concat", ["y1", "y2", "y3"], ["out"], axis=1))
graph = helper.make_graph(nodes, "theirs", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 23, 19])],
                          [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)], init)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)])
model.ir_version = 8
keep("int8_theirs", model, r.normal(0, 1, (1, 3, 23, 19)).astype("f4"))
