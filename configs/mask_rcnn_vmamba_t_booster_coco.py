# Adaptors learn at ten times the rate of the pretrained base: our choice.
_base_ = 'mask_rcnn_vmamba_t_coco.py'

model = dict(
    backbone=dict(adaptors=dict(temporal=dict(), spatial=dict())))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            '.temporal.': dict(lr_mult=10.),
            '.spatial.': dict(lr_mult=10.),
            'temporal.offsets.bias': dict(lr_mult=10.),
            'temporal.coefficients.bias': dict(lr_mult=10.),
            'temporal.gamma': dict(lr_mult=10.),
            'spatial.alpha': dict(lr_mult=10.),
        }))
