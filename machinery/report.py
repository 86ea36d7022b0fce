"""What a run says of an epoch: its line of figures, and warnings."""

YOUNG = 1000         # steps before which no warning is given
SATURATED = 0.97     # D(x) - D(G(z)) from which D tells real from fake almost every time
COLLAPSED = 0.05     # spread of a grid's pixels under which its faces are one and the same


def epoch_line(progress, n_epochs, measured):
    """Return the line of figures of the epoch just finished.

    measured  whether distances are measured in this run: they have a column of their own
    """
    d_loss, g_loss, d_real, d_fake = progress.history[-1].mean(0).tolist()
    distance = _distance_column(progress) if measured else ''
    rate = progress.images_seen / progress.seconds
    seconds_left = (n_epochs - progress.epoch) * progress.seconds / progress.epoch
    minutes, seconds = divmod(round(seconds_left), 60)
    return (f'epoch {progress.epoch:4d}/{n_epochs:4d} | d_loss {d_loss:6.3f} | '
            f'g_loss {g_loss:6.3f} | D(x) {d_real:.2f} | D(G(z)) {d_fake:.2f} |{distance} '
            f'{rate:8,.0f} images/s | {minutes:3d}:{seconds:02d} left')


def _distance_column(progress):
    """Return ' FFD  1.23 |' where this epoch's distance was measured, else as many blanks."""
    if progress.distances and progress.distances[-1][0] == progress.epoch:
        _, distance, _ = progress.distances[-1]
        return f' FFD {distance:5.2f} |'
    return ' ' * 11 + '|'


def warnings(progress):
    """Return a sentence where D has won, and one where G draws one and the same face."""
    found = []
    if progress.n_steps < YOUNG:
        return found
    _, _, d_real, d_fake = progress.history[-1].mean(0).tolist()
    if d_real - d_fake > SATURATED:
        found.append('  Warning: D tells real from fake almost every time; '
                     'G has little left to learn from.')
    if progress.samples[-1].std(0).mean() < COLLAPSED:
        found.append('  Warning: the sixteen samples are nearly one and the same: '
                     'G has collapsed.')
    return found
