"""Train the face encoder behind Fréchet face distance on CelebA's 40 attributes, into assets/encoder.pt.

    python experiments/encoder.py FOLDER_OF_FACES list_attr_celeba.txt

Faces 011001 to 018000 train it, faces 000001 to 001000 test it. No face in 001001 to 011000 is used: from those come
reference and floor of the distance. Half of the batches are seen at 32x32, so that the encoder suits both sizes.
Takes about five minutes on two cores. Accuracies go to assets/encoder.csv.
"""
import csv
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))
import helpers  # noqa: E402

TRAIN, TEST = range(11_001, 18_001), range(1, 1_001)
EPOCHS, BATCH, SEED = 40, 100, 0
notebook = helpers.load_definitions(HERE / 'dcgan_faces.ipynb')


def load(folder, attributes):
    """Faces, 40 labels (N, 40) in {0, 1}, ids and the names of the attributes."""
    names, labels = helpers.read_attributes(attributes)
    paths = [Path(path).name for path, *_ in helpers.list_images(folder)]
    images = helpers.decode_folder(folder, 64)
    assert len(images) == len(paths), 'a file could not be read: which label belongs to which image is not known'
    return images, torch.stack([labels[path] for path in paths]).float(), torch.tensor([int(path[:6]) for path in paths]), names


def augment(x, small):
    """Mirror half, shift by up to 3 pixels, and now and then throw the details away that 32x32 does not have."""
    x = notebook.random_flip(x)
    top, left = torch.randint(7, (2,)).tolist()
    x = F.pad(x, (3, 3, 3, 3), mode='replicate')[:, :, top:top + 64, left:left + 64]
    return F.interpolate(x, (32, 32), mode='bilinear', antialias=True) if small else x


def to_float(images):
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def answers(encoder, images, size):
    """Attribute logits (N, 40) of images seen at size x size."""
    batches = [to_float(batch) for batch in images.split(250)]
    batches = [batch if size == 64 else F.interpolate(batch, (32, 32), mode='bilinear', antialias=True) for batch in batches]
    return torch.cat([encoder.attributes(encoder(batch)) for batch in batches])


def main():
    folder, attributes = sys.argv[1:]
    images, labels, ids, names = load(folder, attributes)
    train, test = (torch.isin(ids, torch.tensor(chosen)) for chosen in (TRAIN, TEST))
    x, y = images[train], labels[train]
    torch.manual_seed(SEED)
    encoder = helpers.FaceEncoder(len(names)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters(), weight_decay=.05, fused=True)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    started = time.time()
    for epoch in range(EPOCHS):
        encoder.train()
        for number, batch in enumerate(torch.randperm(len(x))[:len(x) // BATCH * BATCH].split(BATCH)):
            with torch.autocast('cpu', torch.bfloat16):
                features = encoder(augment(to_float(x[batch]), small=number % 2))
                logits = encoder.attributes(F.dropout(features, .2))
            loss = F.binary_cross_entropy_with_logits(logits.float(), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 5 == 4:
            encoder.eval()
            right = [((answers(encoder, images[test], size) > 0) == (labels[test] > .5)).float().mean().item() for size in (32, 64)]
            print(f'epoch {epoch + 1}: loss {loss.item():.3f}, right at 32x32 {right[0]:.4f}, at 64x64 {right[1]:.4f}, '
                  f'{time.time() - started:.0f} s', flush=True)

    encoder.eval()
    majority = (labels[train].mean(0) > .5).float()
    guessed = (majority == labels[test]).float().mean(0).tolist()
    right = {size: ((answers(encoder, images[test], size) > 0) == (labels[test] > .5)).float().mean(0).tolist() for size in (32, 64)}
    with open(HERE / 'assets/encoder.csv', 'w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['attribute', 'right_32', 'right_64', 'majority', 'n_train', 'n_test', 'images_seen', 'seed', 'command',
                        'device', 'torch'])
        for row in [('mean', *(sum(values) / len(values) for values in (right[32], right[64], guessed))),
                    *zip(names, right[32], right[64], guessed)]:
            table.writerow([row[0], *(f'{value:.3f}' for value in row[1:]), len(x), int(test.sum()), steps * BATCH, SEED,
                            'python experiments/encoder.py FOLDER list_attr_celeba.txt', helpers.device_name(), torch.__version__])
    state = {name: value.half() if value.is_floating_point() else value for name, value in encoder.state_dict().items()}
    helpers.write_atomically(helpers.ENCODER, lambda file: torch.save(dict(attributes=names, weights=state), file))
    print(f'{helpers.ENCODER.name}: {helpers.ENCODER.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
