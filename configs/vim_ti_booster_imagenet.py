_base_ = ['_base_/models/classifier_vim_ti.py', '_base_/booster_imagenet.py']

model = dict(
    backbone=dict(adaptors=dict(temporal=dict(), spatial=dict())))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            'pos_embed': dict(decay_mult=0.),
            'cls_token': dict(decay_mult=0.),
        }))
load_from = 'checkpoints/vim_ti_imagenet.pth'
