"""The faces that code draws: seeded, varied, and faces."""
import torch

from machinery.drawn import drawn_faces


def test_drawn_faces_are_seeded_and_varied():
    """They are the same for a seed, no two alike, of every lightness, on all kinds of walls."""
    faces = drawn_faces(300, 32, seed=1)
    assert faces.shape == (300, 3, 32, 32) and faces.dtype == torch.uint8
    assert torch.equal(faces, drawn_faces(300, 32, seed=1))
    assert not torch.equal(faces, drawn_faces(300, 32, seed=2))
    pixels = faces.float().div(255)
    distances = torch.cdist(pixels.flatten(1), pixels.flatten(1)) + 100 * torch.eye(300)
    assert distances.min() > 2, 'two of the faces are nearly the same'
    cheeks = pixels[:, :, 17:20, 13:19].mean((1, 2, 3))
    assert cheeks.quantile(.05) < .35 and cheeks.quantile(.95) > .65, 'the skins do not vary'
    corners = pixels[:, :, :3, :3].mean((2, 3)).std(0)
    assert corners.min() > .12, 'the backgrounds do not vary'


def test_drawn_faces_are_the_same_picture_at_each_size():
    """Halved, a face of 64 x 64 is the one that is drawn at 32 x 32, but for its edges."""
    large = drawn_faces(50, 64, seed=4).float()
    small = drawn_faces(50, 32, seed=4).float()
    halved = torch.nn.functional.avg_pool2d(large, 2)
    assert (halved - small).abs().mean() < 4, 'of 255'


def test_drawn_faces_look_like_faces():
    """On average: dark eyes, a mouth redder than the cheeks, the left half like the right one."""
    mean = drawn_faces(300, 64, seed=4).float().mean(0) / 255
    grey = mean.mean(0)
    eyes = grey[29:31, 22:27].mean()
    between_the_eyes = grey[32:34, 31:33].mean()
    cheeks = grey[36:39, 22:27].mean()
    assert eyes < between_the_eyes - .05 and eyes < cheeks - .05
    redness = mean[0] - mean[1:].mean(0)
    assert redness[44:48, 29:35].mean() > redness[36:39, 22:27].mean() + .005
    assert (grey - grey.flip(1)).abs().mean() < .02
