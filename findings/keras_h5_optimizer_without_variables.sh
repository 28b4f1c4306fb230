#!/usr/bin/env bash
# Keras loads a trained network from .h5 with an optimizer for no variables: its state is lost, and fit() fails.
#
# Expected: load_model() gives the network back compiled, with the state of its optimizer, and training goes on.
# Seen with Keras 3.15.1: the file holds the momentum. While loading, the optimizer is built with the variables that
# belong to the network itself (none) instead of those of its layers; the saved state is dropped without a warning, and
# fit() stops with an error about variables that the optimizer does not know. The same network saved as .keras trains
# on. After network.compile() with a new optimizer a network from .h5 trains too, from an empty state.
# Why it matters: it is found out when training is to go on, and the error tells nothing about the file.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax PYTHONPATH="$folder" python3 - <<'PYTHON'
import h5py
import keras
import numpy as np

inputs, targets = np.ones((4, 3)), np.zeros((4, 2))
network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
network.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=keras.losses.MeanSquaredError())
network.fit(inputs, targets, verbose=0)


def goes_on(path: str) -> tuple[int, str]:
    """How many variables the loaded optimizer has, and whether the network trains on."""
    network.save(path)
    loaded = keras.models.load_model(path)
    variables = len(loaded.optimizer.variables)
    try:
        loaded.fit(inputs, targets, verbose=0)
    except ValueError as error:
        return variables, f"{str(error).split('.')[0][:60]} ..."
    return variables, "trains"


seen = {path: goes_on(path) for path in ("network.keras", "network.h5")}
with h5py.File("network.h5") as file:
    stored = len(file["optimizer_weights"].attrs["weight_names"])
print(f"Keras {keras.__version__}, {stored} variables of the optimizer in the .h5 file; loaded: {seen}")
assert stored == 4 and seen["network.keras"] == (4, "trains"), "the behaviour has changed"
assert seen["network.h5"][0] == 2 and seen["network.h5"][1] != "trains", "the behaviour has changed"
PYTHON
