# SPDX-License-Identifier: Apache-2.0
"""Small TensorFlow Lite files, made with the objects of the format's own schema."""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


class TfliteModel:
    """A network of one input, which is tensor 0; the tensor that was added last is its output."""

    def __init__(self, shape: Sequence[int], kind: str = "float32", scale: Any = None, zero_point: Any = 0) -> None:
        self.graph, self.model = schema.SubGraphT(), schema.ModelT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.model.subgraphs = [self.graph]
        self.add_tensor(shape, kind, scale, zero_point)

    def add_tensor(
        self, shape: Sequence[int], kind: str = "float32", scale: Any = None, zero_point: Any = 0, axis: int = 0
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(shape), TYPES[kind], 0
        tensor.name = f"tensor {len(self.graph.tensors)}"
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(scale).astype(np.float32)
            zeros = np.broadcast_to(zero_point, tensor.quantization.scale.shape)
            tensor.quantization.zeroPoint = zeros.astype(np.int64)
            tensor.quantization.quantizedDimension = axis
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def add_constant(self, values: np.ndarray, scale: Any = None, zero_point: Any = 0, axis: int = 0) -> int:
        index = self.add_tensor(values.shape, values.dtype.name, scale, zero_point, axis)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.graph.tensors[index].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return index

    def add(
        self, kind: str, inputs: Sequence[int], output: int, options: str = "", version: int = 1, **settings: Any
    ) -> int:
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = list(inputs), [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in settings.items():
                assert hasattr(operator.builtinOptions, name)
                setattr(operator.builtinOptions, name, value)
        self.graph.operators.append(operator)
        return output

    def content(self) -> bytes:
        self.graph.inputs, self.graph.outputs = [0], [self.graph.operators[-1].outputs[0]]
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def run_tflite(content: bytes, images: np.ndarray) -> np.ndarray:
    """What LiteRT computes of `images`, in the file's order of axes and its integers."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
