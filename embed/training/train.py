#!/usr/bin/env python3
"""train.py: trains the built-in model from scratch and exports it.

    train.py --data train.tar --out likeness-v1.onnx --minutes 50     # two cores, PyTorch 1.13 or newer
    train.py --data train.tar --evaluate likeness-v1.onnx             # the figures of README.md

The learning rate follows the clock, not the epoch, so a run ends on time on any machine. Same seed, same batches; on
another machine another number of them fit into the time.
"""

import argparse
import copy
import inspect
import math
import pathlib
import time

import numpy as np
import torch

import data
import evaluate
from model import DIM, INPUT, MEAN, STD, CosineHead, Encoder

ATTRIBUTION = "Trained on Caltech 101 (CC BY 4.0) and the data sets named in embed/training/NOTICE"


def embed_all(encoder, pixels):
    encoder.eval()
    rows = []
    with torch.no_grad():
        for i in range(0, len(pixels), 128):
            x = torch.from_numpy(pixels[i:i + 128]).permute(0, 3, 1, 2).float().div_(255)
            x = torch.nn.functional.interpolate(x, (INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)
            rows.append(encoder(((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)))
    encoder.train()
    return torch.cat(rows).numpy()


def update_average(average, encoder, keep):
    """Exponential moving average of the weights; batch-norm counters are copied."""
    with torch.no_grad():
        for a, b in zip(average.state_dict().values(), encoder.state_dict().values()):
            if a.dtype.is_floating_point: a.mul_(keep).add_(b, alpha=1 - keep)
            else: a.copy_(b)


def train(pixels, labels, minutes, batch, seed, checkpoint):
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    order = np.random.default_rng(seed)
    test = np.array([data.held_out(*l) for l in labels])
    names = sorted({l for l, t in zip(labels, test) if not t})
    number = {l: i for i, l in enumerate(names)}
    kept = np.flatnonzero(~test)
    target = np.array([number.get(l, -1) for l in labels])
    print(f"{len(kept)} photos of {len(names)} classes to train on, {test.sum()} held out", flush=True)

    encoder, head = Encoder().to(memory_format=torch.channels_last), CosineHead(len(names))
    average = copy.deepcopy(encoder)
    decayed = [p for p in list(encoder.parameters()) + list(head.parameters()) if p.ndim > 1]
    plain = [p for p in encoder.parameters() if p.ndim <= 1]
    peak = 3e-3
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0}], lr=peak)
    start, done, epoch, step = time.time(), 0.0, 0, 0
    while done < 1:
        shuffled = order.permutation(kept)
        loss_sum = count = 0
        for i in range(0, len(shuffled) - batch + 1, batch):
            done = min((time.time() - start) / (60 * minutes), 1.0)
            if done >= 1: break
            rate = peak * min(step / 300, 1.0) * (0.5 * (1 + math.cos(math.pi * done)) + 0.003)
            for group in optimiser.param_groups: group["lr"] = rate
            side = 80 if done < 0.35 else 112 if done < 0.8 else INPUT  # small pictures first: most epochs for the time
            at = shuffled[i:i + batch]
            x = (data.augment(pixels[at], side, rng) - MEAN) / STD
            loss = head(encoder(x.contiguous(memory_format=torch.channels_last)), torch.from_numpy(target[at]),
                        margin_share=min(done / 0.2, 1.0))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), 5.0)
            optimiser.step()
            step += 1
            update_average(average, encoder, min(0.998, step / (step + 50)))
            loss_sum, count = loss_sum + float(loss.detach()), count + 1
        epoch += 1
        r1, _, ap = evaluate.figures(embed_all(average, pixels[test]), ["/".join(l) for l, t in zip(labels, test) if t])
        print(f"epoch {epoch} step {step} side {side} loss {loss_sum / max(count, 1):.3f} recall@1 {r1:.3f} mAP {ap:.3f} "
              f"{(time.time() - start) / 60:.1f} min", flush=True)
        torch.save(average.state_dict(), checkpoint)
    return average


def export(encoder, path):
    """Evaluation mode folds batch norms; the metadata tells the loader how to prepare a photo."""
    import onnx
    encoder.eval()
    legacy = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(encoder.to(memory_format=torch.contiguous_format), torch.zeros(1, 3, INPUT, INPUT), str(path),
                      input_names=["image"], output_names=["embedding"], opset_version=13, **legacy)
    model = onnx.load(str(path))
    three = ",".join
    for key, value in {"name": "likeness-v1", "version": "1", "mean": three([str(MEAN)] * 3), "std": three([str(STD)] * 3),
                       "fit": "squash", "resize": str(INPUT), "attribution": ATTRIBUTION}.items():
        model.metadata_props.append(onnx.StringStringEntryProto(key="likeness." + key, value=value))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    print(f"{path}: {pathlib.Path(path).stat().st_size / 1e6:.2f} MB, dim {DIM}, "
          f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M parameters")


def run_onnx(path, pixels):
    import onnxruntime
    from PIL import Image
    session = onnxruntime.InferenceSession(path)
    rows = []
    for p in pixels:
        x = np.asarray(Image.fromarray(p).resize((INPUT, INPUT), Image.BILINEAR), np.float32) / 255
        rows.append(session.run(None, {"image": ((x - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)})[0][0])
    return np.stack(rows)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("--data", required=True, help="train.tar: photos and train/labels.csv")
    a.add_argument("--out", default="likeness-v1.onnx")
    a.add_argument("--minutes", type=float, default=50)
    a.add_argument("--batch", type=int, default=96)
    a.add_argument("--threads", type=int, default=2)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--checkpoint", default="/tmp/likeness-checkpoint.pt")
    a.add_argument("--export", action="store_true", help="only export the checkpoint")
    a.add_argument("--evaluate", metavar="MODEL.onnx")
    args = a.parse_args()
    torch.set_num_threads(args.threads)
    if args.export:
        encoder = Encoder()
        encoder.load_state_dict(torch.load(args.checkpoint))
        return export(encoder, args.out)
    pixels, labels = data.load(args.data)
    if not args.evaluate:
        return export(train(pixels, labels, args.minutes, args.batch, args.seed, args.checkpoint), args.out)
    at = [i for i, l in enumerate(labels) if data.held_out(*l)]
    colour = np.stack([evaluate.colour_histogram(pixels[i]) for i in at])
    shape = np.stack([evaluate.hog(pixels[i]) for i in at])
    evaluate.report({"this model": run_onnx(args.evaluate, pixels[at]), "colour histogram": colour, "HOG": shape,
                     "histogram + HOG": np.hstack([evaluate.unit(colour), evaluate.unit(shape)])},
                    [labels[i] for i in at], data.EVALUATED)


if __name__ == "__main__":
    main()
