"""Prepared datasets: tar shards of image files as they were, with an index beside each.

    <store>/manifest.json        what it is made of; its presence means that it is whole
    <store>/00000.tar ...        the videos, member after member: <video>/00000.jpg, <video>/00000.png, ...
    <store>/00000.parquet ...    one row per video: where its members lie in the tar, their sizes and sums
    <store>/splits/NAME.txt      the names of a split's videos, and the annotation that they index

`layout` owns the names and columns, `writing` and `reading` are the two sides of a shard, `source`
is what a training sees. Any tar reads the shards, too.
"""
