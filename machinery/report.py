"""What a run says of an epoch: its line of figures, and warnings."""

YOUNG = 1000         # steps before which no warning is given
SATURATED = 0.97     # D(x) - D(G(z)) from which D tells real from fake almost every time
COLLAPSED = 0.05     # spread of a grid's pixels under which its faces are one and the same


def epoch_line(progress, n_epochs, measured):
    """Return the line of figures of the epoch just finished.

    measured  whether distances are measured in this run: they have a column of their own
    """
    d_loss, g_loss, d_real, d_fake = progress.epochs[-1].steps.mean(0).tolist()
    distance = _distance_column(progress) if measured else ''
    rate = progress.images_seen / progress.seconds
    seconds_left = (n_epochs - progress.epoch) * progress.seconds / progress.epoch
    minutes, seconds = divmod(round(seconds_left), 60)
    return (f'epoch {progress.epoch:4d}/{n_epochs:4d} | d_loss {d_loss:6.3f} | '
            f'g_loss {g_loss:6.3f} | D(x) {d_real:.2f} | D(G(z)) {d_fake:.2f} |{distance} '
            f'{rate:8,.0f} images/s | {minutes:3d}:{seconds:02d} left')


def _distance_column(progress):
    """Return ' FFD  1.23 |' where this epoch's distance was measured, else as many blanks."""
    if progress.epochs[-1].distance:
        distance, _ = progress.epochs[-1].distance
        return f' FFD {distance:5.2f} |'
    return ' ' * 11 + '|'


def warnings(progress):
    """Return a sentence where D has won, and one where G draws one and the same face."""
    found = []
    if progress.n_steps < YOUNG:
        return found
    _, _, d_real, d_fake = progress.epochs[-1].steps.mean(0).tolist()
    if d_real - d_fake > SATURATED:
        found.append('  Warning: D tells real from fake almost every time; '
                     'G has little left to learn from.')
    if progress.epochs[-1].grid.std(0).mean() < COLLAPSED:
        found.append('  Warning: the sixteen samples are nearly one and the same: '
                     'G has collapsed.')
    return found


def rates_rise(before, now, n_epochs):
    """Return a line for a run that was over and is given more epochs, which begin at higher rates.

    Learning rates that fall with the epochs are nearly 0 at the end.
    """
    return (f'  Learning rates rise again, from {before:.2g} to {now:.2g}: they now fall towards '
            f'the end of {n_epochs} epochs.')


def gone_bad(epoch, what, folder):
    """Return what to tell a user whose run cannot go on after this epoch."""
    return (f'Epoch {epoch + 1}: {what}. Epoch {epoch} is kept in {folder}/. Try a lower lr, or '
            f'penalty = 0.1; look for images that are all of one colour.')


def interrupted(number, saved, resume):
    """Return a line that says what an interrupt has left, and how to go on.

    number  of the epoch in which it came
    saved   the last epoch on disk
    resume  whether the run was to be taken up again
    """
    how = 'run this cell, or the same command, again' if resume else 'train with resume=True'
    return (f'Interrupted in epoch {number}. On disk: all up to the end of epoch {saved}. '
            f'To go on, {how}.')
