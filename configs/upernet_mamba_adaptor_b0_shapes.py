# The embedded run of a segmentor: from scratch, in minutes on a CPU.
_base_ = [
    '_base_/models/upernet.py', '_base_/datasets/shapes_semantic.py',
    '_base_/schedules/adamw.py', '_base_/default_runtime_seg.py'
]

sync_bn = None
# The heads start as torch draws them: mmseg's classifiers, with a deviation of
# .01, keep so short a run at the background for most of its time.
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch='b0', drop_path_rate=0.),
    decode_head=dict(
        in_channels=[32, 64, 128, 256],
        channels=64,
        num_classes=7,
        init_cfg=None),
    auxiliary_head=dict(
        in_channels=128, channels=64, num_classes=7, init_cfg=None))
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=4, val_interval=2)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    optimizer=dict(lr=1e-3, fused=True), clip_grad=dict(max_norm=5.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, end=200),
    dict(
        type='CosineAnnealingLR',
        T_max=4,
        eta_min=1e-5,
        convert_to_iter_based=True)
]
