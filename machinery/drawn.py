"""Faces drawn by code, for where there are no photographs."""
import math

import torch

SKINS = torch.tensor([[.28, .17, .12], [.45, .29, .20], [.62, .43, .31], [.78, .58, .45],
                      [.90, .72, .60], [.96, .82, .73]])
HAIRS = torch.tensor([[.06, .05, .05], [.16, .10, .07], [.30, .18, .10], [.48, .30, .15],
                      [.78, .60, .32], [.88, .78, .55], [.55, .22, .10], [.62, .62, .62]])
EYES = torch.tensor([[.22, .13, .07], [.35, .22, .10], [.25, .40, .60], [.30, .45, .30]])


def fixed_colour(red, green, blue):
    """Make a colour (3, 1, 1) that is the same for all faces."""
    return torch.tensor([red, green, blue]).view(3, 1, 1)


EYE_WHITE = fixed_colour(.95, .94, .92)
TEETH = fixed_colour(.96, .95, .92)
BLUSH = fixed_colour(1.0, .72, .68)                # a factor for the colour of the skin
LIPS = fixed_colour(.85, .5, .5)                   # likewise
LIPSTICK = fixed_colour(.7, .15, .2)
AT_ONCE = 512                                # faces that are drawn at once: it bounds the memory


def drawn_faces(n_faces, image_size=32, seed=0):
    """Draw faces by code; return uint8 (n_faces, 3, image_size, image_size), the same for a seed.

    Skin, hair, eyes, brows, nose, mouth, beard, glasses, pose, light and background all vary.
    """
    random_numbers = torch.Generator().manual_seed(seed)
    batches = torch.arange(n_faces).split(AT_ONCE)
    return torch.cat([_Faces(len(batch), image_size, random_numbers).draw() for batch in batches])


def ellipse(x, y, centre_x, centre_y, width, height):
    """Return the distance of each pixel from the rim of an ellipse, roughly: negative inside."""
    ratio = torch.sqrt(((x - centre_x) / width) ** 2 + ((y - centre_y) / height) ** 2)
    return (ratio - 1) * torch.minimum(torch.as_tensor(width), torch.as_tensor(height))


def both(distance, other):
    """Return the distance from the rim of what lies inside two shapes at once."""
    return torch.maximum(distance, other)


class _Faces:
    """A batch of n faces in the making: the image so far, and what later parts need of it.

    Places run from -1 to 1, from left to right and from top to bottom. What a face has one of, such
    as the width of its mouth, is (n, 1, 1, 1); a colour is (n, 3, 1, 1); a shape or a share of each
    pixel is (n, 1, s, s).

    The parts are painted one over another, and each takes its random numbers in turn: with another
    order, the same seed would give other faces.
    """

    def __init__(self, n, size, random_numbers):
        self.n = n
        self.random_numbers = random_numbers
        self.pixel = 2 / size
        axis = (torch.arange(size) + .5) * self.pixel - 1
        self.page_y, self.page_x = torch.meshgrid(axis, axis, indexing='ij')

    def draw(self):
        """Draw the batch; return uint8 (n, 3, s, s)."""
        self.skin = self.one_of(SKINS, 1.0)
        self.hair = self.one_of(HAIRS)
        self.draw_background()
        self.choose_pose()
        self.draw_behind_head()
        self.draw_head()
        self.draw_beard()
        self.draw_fringe()
        self.draw_eyes_and_glasses()
        self.draw_nose()
        self.draw_mouth()
        return (self.image.clamp(0, 1) * 255).round().to(torch.uint8)

    # ------------------------------------------------------------------------------ random numbers

    def uniform(self, low, high, width=1):
        share = torch.rand(self.n, width, 1, 1, generator=self.random_numbers)
        return low + (high - low) * share

    def chance(self, probability):
        """Return 1 for some of the faces, else 0."""
        return (self.uniform(0, 1) < probability).float()

    def one_of(self, palette, blend=0.0):
        """Choose a colour of the palette, moved by up to blend of the way to its neighbour."""
        place = torch.randint(len(palette), (self.n,), generator=self.random_numbers)
        neighbour = (place + 1).clamp(max=len(palette) - 1)
        share = blend * torch.rand(self.n, 1, generator=self.random_numbers)
        chosen = torch.lerp(palette[place], palette[neighbour], share)
        return (chosen.view(self.n, 3, 1, 1) + self.uniform(-.03, .03, 3)).clamp(0, 1)

    # ------------------------------------------------------------------------------------ painting

    def inside(self, distance, softness=1.0):
        """Turn a distance into the share of each pixel that lies inside: edges are a pixel wide."""
        return (.5 - distance / (softness * self.pixel)).clamp(0, 1)

    def paint(self, colour, cover):
        self.image.lerp_(colour.expand_as(self.image), cover.expand_as(self.image))

    # --------------------------------------------------------------------------- the parts in turn

    def draw_background(self):
        """Let two colours run into one another, in any direction."""
        angle = self.uniform(0, 2 * math.pi)
        along = self.page_x * angle.cos() + self.page_y * angle.sin()
        ramp = (along / 2.8 + .5).clamp(0, 1)
        wall = self.any_wall()
        corner = self.any_wall()
        size = len(self.page_x)
        self.image = torch.lerp(wall.expand(self.n, 3, size, size), corner, ramp)

    def any_wall(self):
        grey = self.uniform(.05, .95)
        bright = self.uniform(.05, .95, 3)
        return torch.lerp(grey, bright, self.uniform(.2, .6))

    def choose_pose(self):
        """Move and tilt the head, and let it turn and nod: its features slide sideways and down."""
        tilt = self.uniform(-.2, .2)
        zoom = self.uniform(.9, 1.1)
        self.turn = self.uniform(-.13, .13)
        nod = self.uniform(-.05, .05)
        moved_x = (self.page_x - self.uniform(-.08, .08)) / zoom
        moved_y = (self.page_y - self.uniform(-.06, .06)) / zoom
        self.x = moved_x * tilt.cos() + moved_y * tilt.sin()
        self.y = moved_y * tilt.cos() - moved_x * tilt.sin()
        self.face_x = self.x - self.turn
        self.face_y = self.y - nod
        self.width = self.uniform(.50, .60)
        self.height = self.uniform(.68, .78)
        self.left_light = self.uniform(-.35, .35)

    def draw_behind_head(self):
        """Draw what the head covers: long or short hair, the neck, and clothes."""
        x, y = self.x, self.y
        self.long_hair = self.chance(.5)
        volume = self.uniform(.06, .17)
        centre = -.08 + .3 * self.long_hair
        width = self.width + volume
        height = self.height + volume + .2 * self.long_hair
        self.paint(self.hair * .8, self.inside(ellipse(x, y, 0, centre, width, height)))
        neck = both(x.abs() - .26, .3 - y)
        self.paint(self.skin * .72, self.inside(neck))
        cloth = torch.lerp(self.uniform(.1, .9), self.uniform(.1, .9, 3), .5)
        self.paint(cloth, self.inside(ellipse(x, y, 0, 1.25, .95, .42)))

    def draw_head(self):
        """Draw ears, an egg that is lit from one side and darker towards its rim, and cheeks."""
        x, y = self.x, self.y
        egg = self.width * (1 - .16 * (y + .1).clamp(-1, 1))
        self.head = ellipse(x, y, 0, .04, egg, self.height)
        self.across = (x / egg).clamp(-1, 1)
        down = ((y - .04) / self.height).clamp(-1, 1)
        self.depth = (1 - self.across ** 2 - down ** 2).clamp(min=0).sqrt()
        light = .62 + .42 * self.depth + self.left_light * self.across - .1 * down
        self.lit = (self.skin * light.clamp(.3, 1.12)).clamp(0, 1)
        for side in (-1, 1):
            ear = ellipse(x, y, side * self.width * 1.01, .02, .07, .14)
            self.paint(self.skin * .8, self.inside(ear))
        self.paint(self.lit, self.inside(self.head))
        for side in (-1, 1):
            from_cheek = (self.face_x - side * .27) ** 2 + (self.face_y - .25) ** 2
            glow = torch.exp(-from_cheek / .02)
            self.paint(self.lit * BLUSH, .35 * glow * self.inside(self.head))

    def draw_beard(self):
        """Give some of the faces with short hair a beard."""
        chin = .37 - .5 * self.across ** 2 - self.face_y
        jaw = self.inside(self.head) * self.inside(chin, 5)
        thickness = self.uniform(.5, .9)
        has_beard = self.chance(.18) * (1 - self.long_hair)
        self.paint(self.hair * .9, thickness * has_beard * jaw)

    def draw_fringe(self):
        """Draw the hair over the forehead, with a parting; some have none."""
        parting = self.uniform(-.35, .35)
        bend = self.uniform(.2, .9)
        hairline = self.uniform(-.56, -.36) + bend * (self.x - parting) ** 2 * .6
        waves = torch.sin(14 * self.x + self.uniform(0, 6.3))
        strands = .88 + .12 * waves + .2 * self.depth
        is_bald = self.chance(.07) * (1 - self.long_hair)
        fringe = both(self.y - hairline, self.head - .03)
        self.paint((self.hair * strands).clamp(0, 1), self.inside(fringe) * (1 - is_bald))

    def draw_eyes_and_glasses(self):
        """Draw the eyes, the brows over them, and on some faces glasses, clear or dark."""
        self.eyes_apart = self.uniform(.20, .25)
        self.eye_y = self.uniform(-.10, -.04)
        self.eye_open = self.uniform(.045, .075)
        self.iris = self.one_of(EYES)
        self.gaze = self.uniform(-.02, .02)
        self.has_glasses = self.chance(.2)
        self.is_dark = self.chance(.25)
        self.frame = self.uniform(.0, .35, 3)
        self.brow_height = self.uniform(.12, .16)
        self.brow_slant = self.uniform(-.25, .25)
        self.brow = self.uniform(.022, .04)
        for side in (-1, 1):
            self.draw_eye(side * self.eyes_apart)
            self.draw_brow(side)
            self.draw_glass(side * self.eyes_apart)
        rod = (self.face_y - self.eye_y).abs() - .016
        bridge = both(rod, self.face_x.abs() - self.eyes_apart + .16)
        self.paint(self.frame, self.has_glasses * self.inside(bridge))

    def draw_eye(self, eye_x):
        """Draw the socket's shadow, the white, iris and pupil within it, and the upper lid."""
        x, y, eye_y = self.face_x, self.face_y, self.eye_y
        socket = ellipse(x, y, eye_x, eye_y - .01, .135, self.eye_open + .05)
        self.paint(self.lit * .72, .6 * self.inside(socket, 2))
        white = ellipse(x, y, eye_x, eye_y, .105, self.eye_open)
        self.paint(EYE_WHITE, self.inside(white))
        iris = ellipse(x, y, eye_x + self.gaze, eye_y, .058, .065)
        self.paint(self.iris, self.inside(both(white, iris)))
        pupil = ellipse(x, y, eye_x + self.gaze, eye_y, .03, .034)
        self.paint(self.iris * .15, self.inside(both(white, pupil)))
        rim = ellipse(x, y, eye_x, eye_y + .012, .115, self.eye_open + .02).abs() - .018
        self.paint(self.skin * .3, self.inside(both(rim, y - eye_y + .01)))

    def draw_brow(self, side):
        from_eye = self.face_x - side * self.eyes_apart
        slope = side * self.brow_slant * from_eye
        arch = self.eye_y - self.brow_height + slope + 2 * from_eye ** 2
        brow = both((self.face_y - arch).abs() - self.brow, from_eye.abs() - .13)
        self.paint(self.hair * .7, self.inside(brow) * .85)

    def draw_glass(self, eye_x):
        glass = ellipse(self.face_x, self.face_y, eye_x, self.eye_y + .02, .17, .135)
        self.paint(self.frame, self.has_glasses * self.is_dark * .85 * self.inside(glass))
        self.paint(self.frame, self.has_glasses * self.inside(glass.abs() - .018))

    def draw_nose(self):
        """Draw a shaded flank, a bright ridge, and two nostrils."""
        flank_x = self.face_x - self.turn - .05 * self.left_light.sign()
        flank = torch.exp(-(flank_x ** 2 / .0025 + (self.face_y - .1) ** 2 / .02))
        self.paint(self.lit * .7, .5 * flank * self.inside(self.head))
        nose_y = self.uniform(.20, .25)
        nose_width = self.uniform(.07, .10)
        nose_x = self.face_x - .7 * self.turn
        ridge = torch.exp(-(nose_x ** 2 / .003 + (self.face_y - nose_y + .05) ** 2 / .006))
        self.paint((self.lit * 1.12).clamp(0, 1), .6 * ridge)
        for side in (-1, 1):
            nostril = ellipse(nose_x, self.face_y, side * nose_width * .55, nose_y, .032, .02)
            self.paint(self.skin * .35, .8 * self.inside(nostril))

    def draw_mouth(self):
        """Draw lips along a curve, natural or painted, and teeth in a broad smile."""
        smile = self.uniform(-.1, .9)
        mouth_y = self.uniform(.40, .46)
        mouth_width = self.uniform(.17, .26)
        x = self.face_x - .2 * self.turn
        curve = self.face_y - mouth_y + smile * x ** 2
        shape = ellipse(x, curve, 0, 0, mouth_width, self.uniform(.05, .075))
        lips = both(shape, self.head + .03)
        lipstick = LIPSTICK + self.uniform(-.08, .08, 3)
        painted = torch.lerp(self.skin * LIPS, lipstick, self.uniform(.1, .7))
        self.paint(painted, self.inside(lips))
        gap = both(curve.abs() - .012, lips)
        self.paint(self.skin * .25, self.inside(gap) * .8)
        teeth = ellipse(x, curve, 0, 0, mouth_width * .8, .038)
        is_broad = (smile > .35).float()
        self.paint(TEETH, self.inside(teeth) * is_broad)
