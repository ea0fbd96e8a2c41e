_base_ = ['_base_/models/mask_rcnn_vmamba_s.py', '_base_/coco_ms3x.py']
