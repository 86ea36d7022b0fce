"""Faces drawn by code, for where there are no photographs."""
import math

import torch


def drawn_faces(n_faces, image_size=32, seed=0):
    """Draw faces by code: uint8 (n_faces, 3, image_size, image_size), the same for the same seed.

    Skin, hair, eyes, brows, nose, mouth, beard, glasses, pose, light and background all vary.
    """
    random_numbers = torch.Generator().manual_seed(seed)
    batches = torch.arange(n_faces).split(512)
    return torch.cat([_draw(len(batch), image_size, random_numbers) for batch in batches])


SKINS = torch.tensor([[.28, .17, .12], [.45, .29, .20], [.62, .43, .31], [.78, .58, .45], [.90, .72, .60], [.96, .82, .73]])
HAIRS = torch.tensor([[.06, .05, .05], [.16, .10, .07], [.30, .18, .10], [.48, .30, .15], [.78, .60, .32], [.88, .78, .55],
                      [.55, .22, .10], [.62, .62, .62]])
EYES = torch.tensor([[.22, .13, .07], [.35, .22, .10], [.25, .40, .60], [.30, .45, .30]])


def _draw(n, size, random_numbers):
    def uniform(low, high, width=1):
        return low + (high - low) * torch.rand(n, width, 1, 1, generator=random_numbers)

    def chance(probability):
        return (uniform(0, 1) < probability).float()

    def one_of(palette, blend=0.0):
        """A colour of the palette, and up to blend of the way on to its neighbour."""
        place = torch.randint(len(palette), (n,), generator=random_numbers)
        here, there = palette[place], palette[(place + 1).clamp(max=len(palette) - 1)]
        colour = torch.lerp(here, there, blend * torch.rand(n, 1, generator=random_numbers))
        return (colour.view(n, 3, 1, 1) + uniform(-.03, .03, 3)).clamp(0, 1)

    def ellipse(x, y, centre_x, centre_y, width, height):
        """Distance from the rim of an ellipse, about: negative inside."""
        ratio = torch.sqrt(((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2)
        return (ratio - 1) * torch.minimum(torch.as_tensor(width), torch.as_tensor(height))

    def inside(distance, softness=1.0):
        """Share of each pixel that lies inside: edges are a pixel wide."""
        return (.5 - distance / (softness * pixel)).clamp(0, 1)

    def paint(colour, cover):
        image.lerp_(colour.expand_as(image), cover.expand_as(image))

    pixel = 2 / size
    axis = (torch.arange(size) + .5) * pixel - 1
    page_y, page_x = torch.meshgrid(axis, axis, indexing='ij')
    skin, hair = one_of(SKINS, 1.0), one_of(HAIRS)

    # Background: two colours that run into one another
    angle = uniform(0, 2 * math.pi)
    ramp = ((page_x * angle.cos() + page_y * angle.sin()) / 2.8 + .5).clamp(0, 1)
    wall, corner = (torch.lerp(uniform(.05, .95), uniform(.05, .95, 3), uniform(.2, .6)) for _ in range(2))
    image = torch.lerp(wall.expand(n, 3, size, size), corner, ramp)

    # Pose: the head is moved, tilted, turned (features slide sideways) and nods (they slide up or down)
    tilt, zoom, turn, nod = uniform(-.2, .2), uniform(.9, 1.1), uniform(-.13, .13), uniform(-.05, .05)
    moved_x, moved_y = (page_x - uniform(-.08, .08)) / zoom, (page_y - uniform(-.06, .06)) / zoom
    x = moved_x * tilt.cos() + moved_y * tilt.sin()
    y = moved_y * tilt.cos() - moved_x * tilt.sin()
    face_x, face_y = x - turn, y - nod
    width, height = uniform(.50, .60), uniform(.68, .78)
    left_light = uniform(-.35, .35)

    # Hair behind, neck, clothes
    long_hair, volume = chance(.5), uniform(.06, .17)
    paint(hair * .8, inside(ellipse(x, y, 0, -.08 + .3 * long_hair, width + volume, height + volume + .2 * long_hair)))
    paint(skin * .72, inside(torch.maximum(x.abs() - .26, .3 - y)))
    paint(torch.lerp(uniform(.1, .9), uniform(.1, .9, 3), .5), inside(ellipse(x, y, 0, 1.25, .95, .42)))

    # Head: an egg, lit from one side, darker towards its rim
    egg = width * (1 - .16 * (y + .1).clamp(-1, 1))
    head = ellipse(x, y, 0, .04, egg, height)
    across, down = (x / egg).clamp(-1, 1), ((y - .04) / height).clamp(-1, 1)
    depth = (1 - across ** 2 - down ** 2).clamp(min=0).sqrt()
    light = (.62 + .42 * depth + left_light * across - .1 * down).clamp(.3, 1.12)
    lit = (skin * light).clamp(0, 1)
    for side in (-1, 1):
        paint(skin * .8, inside(ellipse(x, y, side * width * 1.01, .02, .07, .14)))      # ears
    paint(lit, inside(head))
    for side in (-1, 1):                                                                 # cheeks
        glow = torch.exp(-((face_x - side * .27) ** 2 + (face_y - .25) ** 2) / .02)
        paint(lit * torch.tensor([1.0, .72, .68]).view(3, 1, 1), .35 * glow * inside(head))

    # Beard, then the fringe of hair over the forehead
    jaw = inside(head) * inside(.37 - .5 * across ** 2 - face_y, 5)
    paint(hair * .9, uniform(.5, .9) * chance(.18) * (1 - long_hair) * jaw)
    parting, bend = uniform(-.35, .35), uniform(.2, .9)
    hairline = uniform(-.56, -.36) + bend * (x - parting) ** 2 * .6
    strands = .88 + .12 * torch.sin(14 * x + uniform(0, 6.3)) + .2 * depth
    bald = chance(.07) * (1 - long_hair)
    paint((hair * strands).clamp(0, 1), inside(torch.maximum(y - hairline, head - .03)) * (1 - bald))

    # Eyes, brows and glasses
    apart, eye_y, open_ = uniform(.20, .25), uniform(-.10, -.04), uniform(.045, .075)
    iris, gaze = one_of(EYES), uniform(-.02, .02)
    glasses, dark_glass, frame = chance(.2), chance(.25), uniform(.0, .35, 3)
    brow_height, brow_slant, brow = uniform(.12, .16), uniform(-.25, .25), uniform(.022, .04)
    for side in (-1, 1):
        eye_x = side * apart
        paint(lit * .72, .6 * inside(ellipse(face_x, face_y, eye_x, eye_y - .01, .135, open_ + .05), 2))
        white = ellipse(face_x, face_y, eye_x, eye_y, .105, open_)
        paint(torch.tensor([.95, .94, .92]).view(3, 1, 1), inside(white))
        paint(iris, inside(torch.maximum(white, ellipse(face_x, face_y, eye_x + gaze, eye_y, .058, .065))))
        paint(iris * .15, inside(torch.maximum(white, ellipse(face_x, face_y, eye_x + gaze, eye_y, .03, .034))))
        lid = ellipse(face_x, face_y, eye_x, eye_y + .012, .115, open_ + .02).abs() - .018
        paint(skin * .3, inside(torch.maximum(lid, face_y - eye_y + .01)))
        arch = face_y - (eye_y - brow_height + side * brow_slant * (face_x - eye_x) + 2 * (face_x - eye_x) ** 2)
        paint(hair * .7, inside(torch.maximum(arch.abs() - brow, (face_x - eye_x).abs() - .13)) * .85)
        glass = ellipse(face_x, face_y, eye_x, eye_y + .02, .17, .135)
        paint(frame, glasses * dark_glass * .85 * inside(glass))
        paint(frame, glasses * inside(glass.abs() - .018))
    paint(frame, glasses * inside(torch.maximum((face_y - eye_y).abs() - .016, face_x.abs() - apart + .16)))

    # Nose: a shaded flank, a bright ridge, two nostrils
    flank = torch.exp(-((face_x - turn - .05 * left_light.sign()) ** 2 / .0025 + (face_y - .1) ** 2 / .02))
    paint(lit * .7, .5 * flank * inside(head))
    nose_y, nose_width = uniform(.20, .25), uniform(.07, .10)
    paint((lit * 1.12).clamp(0, 1), .6 * torch.exp(-((face_x - .7 * turn) ** 2 / .003 + (face_y - nose_y + .05) ** 2 / .006)))
    for side in (-1, 1):
        paint(skin * .35, .8 * inside(ellipse(face_x - .7 * turn, face_y, side * nose_width * .55, nose_y, .032, .02)))

    # Mouth: lips along a curve, teeth in a broad smile
    smile, mouth_y, mouth_width = uniform(-.1, .9), uniform(.40, .46), uniform(.17, .26)
    curve = face_y - mouth_y + smile * (face_x - .2 * turn) ** 2
    lips = torch.maximum(ellipse(face_x - .2 * turn, curve, 0, 0, mouth_width, uniform(.05, .075)), head + .03)
    natural, lipstick = skin * torch.tensor([.85, .5, .5]).view(3, 1, 1), torch.tensor([.7, .15, .2]).view(3, 1, 1)
    paint(torch.lerp(natural, lipstick + uniform(-.08, .08, 3), uniform(.1, .7)), inside(lips))
    paint(skin * .25, inside(torch.maximum(curve.abs() - .012, lips)) * .8)
    teeth = ellipse(face_x - .2 * turn, curve, 0, 0, mouth_width * .8, .038)
    paint(torch.tensor([.96, .95, .92]).view(3, 1, 1), inside(teeth) * (smile > .35).float())
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)
