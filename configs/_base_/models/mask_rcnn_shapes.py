# SPDX-License-Identifier: Apache-2.0
# Mask R-CNN for images of 128 px: anchors of 16 to 128 px, 64 channels. RoIs up to
# 112 px are read at stride 4, where stripes of 2 px are still separate. The two shared
# fully connected layers of Mask R-CNN are removed: with them, four epochs of an
# earlier dataset were too few for the backbone to learn the class of a disc from its
# lamp. Half of the sampled RoIs are positive.
_base_ = 'mask_rcnn.py'

model = dict(
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), out_channels=64),
        bbox_head=dict(
            type='ConvFCBBoxHead',
            num_shared_fcs=0,
            num_cls_convs=1,
            num_reg_fcs=1,
            in_channels=64,
            conv_out_channels=64,
            fc_out_channels=256,
            num_classes=6,
        ),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=1), out_channels=64),
        mask_head=dict(
            num_convs=1, in_channels=64, conv_out_channels=64, num_classes=6
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=24, pos_fraction=0.5)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100), rcnn=dict(max_per_img=50)),
)
