#!/usr/bin/env python3
"""timm_test.py BUILD [--opset N] [MODEL...]: architectures of PyPI's timm, random weights, in ONNX Runtime and here (against_ort.py),
within 1e-3 of the output's norm. A check beside the suite; skips (77) with a line without timm, torch and onnxruntime."""
import argparse
import inspect
import os
import subprocess
import sys
import tempfile

try:
    import timm
    import torch
    import against_ort
except ImportError as e:
    print(f"skipped: {e.name} is not installed for {sys.executable}")
    sys.exit(77)

BOUND = 1e-3
NAMES = """resnet26d seresnet50 ecaresnet26t resnest14d res2net50_26w_4s skresnet18 resnetblur50 resnext26ts botnet26t_256 tresnet_m
efficientnet_lite0 tf_efficientnet_b0 tf_efficientnetv2_b0 tf_mobilenetv3_small_075 ghostnet_100 mixnet_s tf_mixnet_s mnasnet_small fbnetc_100
hardcorenas_a lcnet_050 tinynet_e rexnet_100 mobileone_s0 repvgg_a0 semnasnet_075 mobilenetv4_conv_small hgnet_tiny hrnet_w18_small dpn68
regnetz_b16 cspresnet50 darknet53 vovnet39a nf_resnet26 xception41 inception_v4 inception_resnet_v2 densenetblur121d repghostnet_050
convnextv2_atto edgenext_xx_small mobilevit_xxs mobilevitv2_050 fastvit_t8 levit_128s poolformer_s12 efficientformer_l1 efficientvit_b0
visformer_tiny coatnet_nano_rw_224 deit_tiny_patch16_224 mixer_s32_224 gmixer_12_224 resmlp_12_224 pit_ti_224 crossvit_tiny_240 xcit_nano_12_p16_224
tiny_vit_5m_224 swin_s3_tiny_224 pvt_v2_b0 twins_svt_small cait_xxs24_224 beit_base_patch16_224 focalnet_tiny_srf""".split()


def export(name, path, opset):
    torch.manual_seed(7)
    model = timm.create_model(name, pretrained=False, exportable=True).eval()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            if m.weight is not None:
                m.weight.data.uniform_(0.5, 1.5)
                m.bias.data.normal_(0, 0.1)
        elif isinstance(m, torch.nn.Linear) and not m.weight.any():
            m.weight.data.normal_(0, 0.02)
    how = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with torch.no_grad():
        torch.onnx.export(model, (torch.randn(1, *model.default_cfg["input_size"]),), path, opset_version=opset, input_names=["image"],
                          output_names=["out"], **how)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build")
    p.add_argument("--opset", type=int, default=17)
    p.add_argument("models", nargs="*")
    args = p.parse_intermixed_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        for name in args.models or NAMES:
            try:
                export(name, path, args.opset)
            except Exception as e:  # noqa: BLE001  whatever stops torch.onnx or timm
                print(f"{name:28} not exported: {str(e).strip().splitlines()[0][:140]}", flush=True)
                continue
            try:
                general, planned, _ = against_ort.compare(args.build, path)
            except subprocess.CalledProcessError as e:
                print(f"{name:28} FAILED: {e.stderr.strip()}", flush=True)
                bad += 1
                continue
            ok = general <= BOUND and (planned is None or planned <= BOUND)
            bad += not ok
            print(f"{name:28} model run {general:.1e}   plan {'other output' if planned is None else f'{planned:.1e}'}   {'ok' if ok else 'TOO FAR'}", flush=True)
    sys.exit(1 if bad else 0)


main()
