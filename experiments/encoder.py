"""Train the face encoder behind the Fréchet face distance, on CelebA's 40 attributes.

    python -m experiments.encoder FOLDER_OF_FACES list_attr_celeba.txt

Faces 011001 to 018000 train it, faces 000001 to 001000 test it. No face from 001001 to 011000 is
used: from those come reference and floor of the distance. Half of the batches are seen at 32x32, so
that the encoder suits both sizes. Takes about five minutes on two cores. Writes the folder
encoder/ (the weights, in half precision) and encoder.csv (which share of each attribute's answers
is right).
"""
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import helpers
from experiments import common
from machinery.pretrained import save_networks

TRAIN, TEST = range(11_001, 18_001), range(1, 1_001)     # ids of faces
EPOCHS, BATCH, SEED = 40, 100, 0
HIGHEST_RATE, WEIGHT_DECAY, DROPOUT = 4e-3, 0.05, 0.2
COLUMNS = ('attribute', 'right_32', 'right_64', 'majority', 'n_train', 'n_test', 'images_seen',
           'seed', 'command', 'device', 'torch')
notebook = common.notebook_definitions()


def load(folder, attributes):
    """Return (faces, labels, ids, names of the attributes) of a folder.

    faces uint8 (N, 3, 64, 64); labels float32 (N, 40) in {0, 1}; ids int64 (N,)
    """
    names, labels_of = helpers.read_attributes(attributes)
    images, paths = helpers.decode_folder(folder, 64)
    file_names = [Path(path).name for path in paths]
    labels = torch.stack([labels_of[name] for name in file_names]).float()
    ids = torch.tensor([int(name[:6]) for name in file_names])
    return images, labels, ids, names


def augment(x, small):
    """Mirror half, shift by up to 3 pixels, and take away the details that 32x32 does not have."""
    x = notebook.random_flip(x)
    top, left = torch.randint(7, (2,)).tolist()
    x = F.pad(x, (3, 3, 3, 3), mode='replicate')[:, :, top:top + 64, left:left + 64]
    return shrink(x) if small else x


def shrink(x):
    return F.interpolate(x, (32, 32), mode='bilinear', antialias=True)


def to_float(images):
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def answers(encoder, images, size):
    """Return the attribute logits (N, 40) of images seen at size x size."""
    logits = []
    for batch in images.split(250):
        x = to_float(batch)
        if size == 32:
            x = shrink(x)
        logits.append(encoder.attributes(encoder(x)))
    return torch.cat(logits)


def right_answers(encoder, images, labels, size):
    """Return which answers are right, bool (N, 40)."""
    return (answers(encoder, images, size) > 0) == (labels > 0.5)


def train(encoder, images, labels, test_images, test_labels):
    """Train for EPOCHS, and say every fifth how many answers about the test faces are right."""
    optimizer = torch.optim.AdamW(encoder.parameters(), weight_decay=WEIGHT_DECAY, fused=True)
    n_batches = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, HIGHEST_RATE, EPOCHS * n_batches)
    started = time.time()
    for epoch in range(1, EPOCHS + 1):
        encoder.train()
        order = torch.randperm(len(images))[:n_batches * BATCH]
        for number, batch in enumerate(order.split(BATCH)):
            with torch.autocast('cpu', torch.bfloat16):
                features = encoder(augment(to_float(images[batch]), small=number % 2 == 1))
                logits = encoder.attributes(F.dropout(features, DROPOUT))
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        encoder.eval()
        if epoch % 5 == 0:
            right = []
            for size in (32, 64):
                right.append(right_answers(encoder, test_images, test_labels, size).float().mean())
            print(f'epoch {epoch}: loss {loss.item():.3f}, right at 32x32 {right[0]:.4f}, '
                  f'at 64x64 {right[1]:.4f}, {time.time() - started:.0f} s', flush=True)


def write_accuracies(into, names, accuracies, whence):
    """Write encoder.csv: a row for the mean, then one for each attribute.

    accuracies  {column: float tensor (40,)}
    """
    rows = []
    for number, name in enumerate(['mean', *names]):
        row = dict(whence, attribute=name)
        for column, values in accuracies.items():
            value = values.mean() if name == 'mean' else values[number - 1]
            row[column] = f'{value:.3f}'
        rows.append(row)
    common.Table(into / 'encoder.csv', COLUMNS, key=('attribute',)).write(rows)


def main(arguments=None):
    parser = common.command_parser(__doc__)
    parser.add_argument('folder', type=common.existing_folder, help="of CelebA's faces")
    parser.add_argument('attributes', type=Path, help="CelebA's list_attr_celeba.txt")
    options = parser.parse_args(arguments)
    images, labels, ids, names = load(options.folder, options.attributes)
    in_train, in_test = torch.isin(ids, torch.tensor(TRAIN)), torch.isin(ids, torch.tensor(TEST))
    train_images, train_labels = images[in_train], labels[in_train]
    test_images, test_labels = images[in_test], labels[in_test]
    torch.manual_seed(SEED)
    encoder = helpers.FaceEncoder(len(names)).to(memory_format=torch.channels_last)
    train(encoder, train_images, train_labels, test_images, test_labels)

    majority = train_labels.mean(0) > 0.5
    right_32 = right_answers(encoder, test_images, test_labels, 32)
    right_64 = right_answers(encoder, test_images, test_labels, 64)
    accuracies = dict(right_32=right_32.float().mean(0), right_64=right_64.float().mean(0),
                      majority=(majority == test_labels).float().mean(0))
    command = common.command('encoder', 'FOLDER', 'list_attr_celeba.txt')
    n_train = len(train_images)
    whence = dict(n_train=n_train, n_test=len(test_images), seed=SEED,
                  images_seen=EPOCHS * (n_train // BATCH) * BATCH, **common.provenance(command))
    write_accuracies(options.into, names, accuracies, whence)
    folder = options.into / helpers.ENCODER.name
    folder.mkdir(exist_ok=True)
    config = dict(model_type='face-encoder', attributes=names)
    save_networks(folder, config, dict(encoder=encoder.state_dict()))


if __name__ == '__main__':
    main()
