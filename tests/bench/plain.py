#!/usr/bin/env python3
"""tests/bench/plain.py IN.onnx OUT.onnx: the same network with Relu for every Swish and HardSwish, x * Sigmoid(x) and x * HardSigmoid(x)
among them. Gates, where a sigmoid multiplies something else than what it is made of, stay. Needs onnx."""
import sys

import onnx

model = onnx.load(sys.argv[1])
nodes = model.graph.node
maker = {name: n for n in nodes for name in n.output}
for n in nodes:
    gate = next((maker[name] for name in n.input if n.op_type == "Mul" and name in maker and maker[name].op_type in ("Sigmoid", "HardSigmoid")
                 and maker[name].input[0] in n.input), None)
    if n.op_type == "HardSwish" or gate is not None:
        n.CopyFrom(onnx.helper.make_node("Relu", [gate.input[0] if gate is not None else n.input[0]], list(n.output), name=n.name))
read = {name for n in nodes for name in n.input} | {o.name for o in model.graph.output}
for n in [n for n in nodes if n.op_type in ("Sigmoid", "HardSigmoid") and n.output[0] not in read]:
    nodes.remove(n)
onnx.save(model, sys.argv[2])
