"""Faces to learn from and other people to judge by, for small races."""
from experiments import bench_loops


def write_crowds(folder):
    """Write 64 faces, 80 of other people, and who these are, below a folder."""
    bench_loops.write_faces(folder / 'faces', 64)
    bench_loops.write_faces(folder / 'people', 80)
    names = sorted(path.name for path in (folder / 'people').rglob('*.jpg'))
    identities = folder / 'identity_CelebA.txt'
    identities.write_text('\n'.join(f'{name} {number}' for number, name in enumerate(names)))
