#!/usr/bin/env bash
# Keras saves a network that holds mobilenet_v2.preprocess_input() as .h5, and then cannot load that file.
#
# Expected: load_model() reads what save() wrote, or save() says more than that the format is an old one.
# Seen with Keras 3.15.1: arithmetic on Keras tensors (preprocess_input() is x / 127.5 - 1) becomes layers such as
# TrueDivide, which the reader of .h5 does not know: "Unknown layer: 'TrueDivide'". The .keras file loads.
# Why it matters: transfer learning as it is usually taught puts preprocess_input() into the network; the loss of the
# file is found out after the training. Its weights can still be read, with load_weights() into a network built anew.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax PYTHONPATH="$folder" python3 - <<'PYTHON'
import keras

inputs = keras.Input((32, 32, 3))
scaled = keras.applications.mobilenet_v2.preprocess_input(inputs)
network = keras.Model(inputs, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(scaled)))


def loads(path: str) -> str:
    """What comes of saving and loading."""
    network.save(path)
    try:
        keras.models.load_model(path)
    except ValueError as error:
        return str(error).split(".")[0]
    return "loads"


seen = {path: loads(path) for path in ("network.keras", "network.h5")}
print(f"Keras {keras.__version__}: {seen}")
expected = {"network.keras": "loads", "network.h5": "Unknown layer: 'TrueDivide'"}
assert seen == expected, "the behaviour has changed"
PYTHON
