"""The basis in which a head's rows take few bits: hidden states and rows spread alike in each direction, then rotated.

The error of a coarse copy is proportional to E|h'| E|w'|, which is least where the covariances of h' = R h and
w' = R^-T w are equal and diagonal. A random rotation after that makes the error of a row point anywhere.
"""

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

FLOOR = 1e-6  # of the mean: eigenvalues are taken to be at least this
LARGEST = 1024.0  # size of the largest element of the rotation: half precision ends at 65,504


def balanced(hidden: Float64, rows: Float64) -> Float64:
    """Return R (d, d) that makes the covariances (d, d) of R h and R^-T w equal and diagonal."""
    values, vectors = floored(hidden)
    root = vectors * np.sqrt(values)
    inverse_root = (vectors / np.sqrt(values)).T
    spread, axes = floored(root.T @ rows @ root)
    basis: Float64 = (spread**0.25)[:, None] * (axes.T @ inverse_root)
    return basis


def floored(covariance: Float64) -> tuple[Float64, Float64]:
    """Return eigenvalues, made positive, and eigenvectors in columns; those of the identity matrix for one of zeros."""
    mean = np.trace(covariance) / len(covariance)
    if not mean > 0:
        return np.ones(len(covariance)), np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, FLOOR * mean), vectors


def haar(size: int, random: np.random.Generator) -> Float64:
    """Return an orthogonal matrix (size, size) drawn uniformly: QR of normal numbers, R's diagonal made positive.

    F. Mezzadri, "How to generate random matrices from the classical compact groups", math-ph/0609050.
    """
    q, r = np.linalg.qr(random.normal(size=(size, size)))
    signs: Float64 = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return signs


def rotation(hidden: Float64, rows: Float64, random: np.random.Generator) -> npt.NDArray[np.float16]:
    """Return the rotated balanced basis (d, d), rounded to half precision."""
    basis = haar(len(rows), random) @ balanced(hidden, rows)
    scaled: npt.NDArray[np.float16] = (basis * (LARGEST / np.abs(basis).max())).astype(np.float16)
    return scaled
