#!/usr/bin/env bash
# After Keras saved a network as .h5, the .keras file that it saves next has lost its optimizer and trains with RMSprop.
#
# Expected: saving does not change the network, so a .keras file is the same before and after a .h5 file was written.
# Seen with Keras 3.15.1: the first .keras file comes back with the SGD that the network was compiled with. Writing .h5
# takes the optimizer out of the settings that the network keeps of compile(); the next .keras file names none, and
# load_model() takes compile()'s default, RMSprop at 0.001, without a warning. Where the numbers of variables agree, as
# here, SGD's state is even loaded into it: its momentum, which has signs, becomes RMSprop's mean of squared gradients.
# Why it matters: whoever writes .h5 for an older program and .keras for going on trains on with another optimizer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$folder" \
    keras==3.15.1 jax==0.10.2 h5py==3.16.0 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax PYTHONPATH="$folder" python3 - <<'PYTHON'
import warnings

import keras
import numpy as np

keras.utils.set_random_seed(0)
network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
network.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=keras.losses.MeanSquaredError())
network.fit(np.ones((4, 3)), np.zeros((4, 2)), verbose=0)


def optimizer_of(path: str) -> tuple[str, list[float]]:
    """The optimizer in a file, and the state that it keeps for the first weight."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = keras.models.load_model(path).optimizer
    return type(optimizer).__name__, np.asarray(optimizer.variables[2])[0].round(4).tolist()


network.save("before.keras")
network.save("other.h5")
network.save("after.keras")
before, after = optimizer_of("before.keras"), optimizer_of("after.keras")
print(f"Keras {keras.__version__}: compiled with {type(network.optimizer).__name__}")
print(f"saved before .h5: {before}; after .h5: {after}")
assert (before[0], after[0], before[1]) == ("SGD", "RMSprop", after[1]), "the behaviour has changed"
PYTHON
