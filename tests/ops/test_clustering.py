"""Clustering and linking against other libraries and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vocl.ops.clustering import complete_linkage, cosine_distances
from vocl.ops.linking import inherit


def partition(labels):
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in set(labels.tolist())}


@pytest.mark.parametrize("seed", range(8))
def test_the_clusters_are_those_of_scikit_learn(seed):
    from sklearn.cluster import AgglomerativeClustering

    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(4, 6))[rng.integers(0, 4, size=9)] + 0.3 * rng.normal(size=(9, 6))
    ours = complete_linkage(vectors, 0.12)
    theirs = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="complete", distance_threshold=0.12, compute_full_tree=True
    ).fit_predict(vectors)
    assert partition(ours) == partition(theirs)
    firsts = [int(np.flatnonzero(ours == label)[0]) for label in range(ours.max() + 1)]
    assert firsts == sorted(firsts)  # numbered by their first member


def test_complete_linkage_looks_at_the_farthest_members():
    angles = np.array([0.0, 0.4, 0.8])  # neighbours at 1 - cos 0.4 = 0.079, the ends at 0.303
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert len(set(complete_linkage(vectors, 0.12))) == 2
    assert len(set(complete_linkage(vectors, 0.31))) == 1


def test_there_is_no_merge_at_the_threshold():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert complete_linkage(vectors, 1.0).tolist() == [0, 1]
    assert complete_linkage(vectors, np.nextafter(1.0, 2)).tolist() == [0, 0]


def test_lengths_do_not_matter_and_a_zero_vector_is_alone():
    vectors = np.array([[1.0, 2.0], [10.0, 20.0], [0.0, 0.0]])
    assert complete_linkage(vectors, 0.12).tolist() == [0, 0, 1]
    assert complete_linkage(vectors[:1], 0.12).tolist() == [0]
    assert cosine_distances(vectors)[2].tolist() == [1, 1, 0]


def test_identities_follow_a_permutation():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(5, 8))
    order = rng.permutation(5)
    after = before[order] * 3 + 0.01 * rng.normal(size=(5, 8))
    assert (
        inherit(before, after, np.array([4, 0, 2, 1, 1])).tolist()
        == np.array([4, 0, 2, 1, 1])[order].tolist()
    )


def test_a_vector_left_over_takes_the_identity_of_the_most_similar():
    before = np.eye(3)
    after = np.array([[0.0, 1.0, 0.1], [1.0, 0, 0], [0, 0, 1.0], [0.2, 1.0, 0.3]])
    assert inherit(before, after, np.array([5, 6, 7])).tolist() == [6, 5, 7, 6]


def test_an_identity_that_is_not_handed_on_is_gone():
    assert inherit(np.eye(3), np.eye(3)[[2, 0]], np.arange(3)).tolist() == [2, 0]
