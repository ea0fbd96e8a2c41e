# SPDX-License-Identifier: Apache-2.0
"""The models in transformers."""

import copy
import pathlib
import pickle
import subprocess
import sys

import pytest
import torch
import transformers
from integrations.pages import blocks
from PIL import Image
from torch.utils.data import Dataset
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoModelForImageClassification,
    MaskFormerConfig,
    RTDetrConfig,
    RTDetrForObjectDetection,
    Trainer,
    TrainingArguments,
    UperNetConfig,
    UperNetForSemanticSegmentation,
    ViTImageProcessor,
    pipeline,
)

import mmadaptor  # noqa: F401
from mmadaptor.errors import CheckpointMismatchError
from mmadaptor.integrations.transformers import (
    MambaAdaptorBackbone,
    MambaAdaptorConfig,
    MambaAdaptorForImageClassification,
    MambaAdaptorModel,
)
from mmadaptor.models import create_backbone, create_classifier

ROOT = pathlib.Path(__file__).parents[2]
STAGES = ['stage1', 'stage2', 'stage3', 'stage4']
ADAPTORS = dict(temporal=dict(gamma_init=0.1), spatial=dict(dilations=[1, 2]))


def b0(**arguments):
    return MambaAdaptorConfig(architecture='mamba_adaptor_b0', **arguments)


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


def python(code):
    command = [sys.executable, '-W', 'ignore', '-c', code]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_is_imported_with_the_first_config():
    code = 'import sys, mmadaptor, transformers\n'
    code += (
        'print(any(n.startswith("transformers.models.auto") for n in sys.modules))\n'
    )
    code += 'from transformers import AutoConfig, AutoModel\n'
    code += 'print("transformers.modeling_utils" in sys.modules)\n'
    code += 'c = AutoConfig.for_model("mamba_adaptor", architecture="vmamba_tiny")\n'
    code += 'print(AutoModel._model_mapping[type(c)].__name__)'
    assert python(code) == ['False', 'False', 'MambaAdaptorModel']


def test_is_registered_after_transformers_was_used():
    code = 'from transformers import AutoConfig, AutoModel\nimport mmadaptor\n'
    code += 'print(AutoConfig.for_model("mamba_adaptor").hidden_sizes[-1])'
    assert python(code) == ['768']


def test_config_round_trips(tmp_path):
    config = b0(
        num_channels=4,
        num_labels=3,
        image_size=[64, 48],
        drop_path_rate=0.1,
        adaptors=ADAPTORS,
        trainable=['adaptors'],
        backbone_arguments=dict(mlp_ratio=2.0),
        out_features=['stage2', 'stage4'],
    )
    config.save_pretrained(tmp_path)
    for other in (
        AutoConfig.from_pretrained(tmp_path),
        MambaAdaptorConfig(**config.to_dict()),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
    ):
        assert other.to_diff_dict() == config.to_diff_dict()
        assert other.out_indices == [1, 3]
        assert other.num_labels == 3


@pytest.mark.parametrize(
    'arguments, message',
    [
        (dict(architecture='mamba_adaptor_b9'), "'mamba_adaptor_b9'.*did you mean"),
        (dict(out_features=['stem']), r"stage_names: \['stage1'.*got \['stem'\]"),
        (dict(out_features=[]), 'out_features.*one or more'),
        (dict(out_indices=[4]), r'out_indices.*-4 to 3, got \[4\]'),
        (dict(out_indices=[-5]), r'out_indices.*-4 to 3, got \[-5\]'),
        (dict(out_indices=[3, 1]), 'same order'),
        (dict(drop_path=0.1), "'drop_path': expected.*did you mean 'drop_path_rate'"),
        (dict(in_channels=4), "'in_channels'.*did you mean 'num_channels'"),
        (dict(scan_init='balanced'), r'backbone_arguments=dict\(scan_init='),
        (
            dict(backbone_arguments=dict(norm_cfg=dict(type=torch.nn.RMSNorm))),
            r"`backbone_arguments` must have numbers.*got \{'norm_cfg'.*RMSNorm",
        ),
    ],
)
def test_config_names_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        MambaAdaptorConfig(**dict(architecture='mamba_adaptor_b0') | arguments)


def test_blocks_as_ranges_are_saved(tmp_path):
    adaptors = dict(temporal={}, blocks=[(), [], range(2), range(1)])
    b0(adaptors=adaptors).save_pretrained(tmp_path)
    model = MambaAdaptorModel(AutoConfig.from_pretrained(tmp_path))
    assert model.config.adaptors['blocks'] == [[], [], [0, 1], [0]]
    assert model.backbone.stages[1][0].mixer.temporal is None
    assert model.backbone.stages[2][1].mixer.temporal is not None


def test_config_names_a_wrong_type():
    with pytest.raises(Exception, match="'num_channels' expected int, got str"):
        b0(num_channels='3')


@pytest.mark.parametrize(
    'arguments, error, message',
    [
        (dict(drop_path_rate=2.0), ValueError, 'drop_path_rate.*got 2.0'),
        (dict(num_channels=0), ValueError, 'in_channels.*got 0'),
        (dict(backbone_arguments=dict(foo=1)), TypeError, "'foo'"),
        (dict(backbone_arguments=dict(in_channels=1)), TypeError, "'in_channels'"),
        (dict(backbone_arguments=dict(init_cfg={})), TypeError, "'init_cfg'"),
    ],
)
def test_model_names_what_is_wrong(arguments, error, message):
    with pytest.raises(error, match=message):
        MambaAdaptorModel(b0(**arguments))


@pytest.mark.parametrize('shape', [(2, 1, 32, 32), (3, 32, 32)])
def test_images_of_another_shape_are_named(shape):
    with pytest.raises(ValueError, match=r'pixel_values.*\(B, 3, H, W\).*got \('):
        MambaAdaptorModel(b0())(torch.zeros(shape))


@pytest.mark.parametrize('channels', [1, 4])
def test_channels_of_the_image(channels):
    output = MambaAdaptorModel(b0(num_channels=channels))(
        torch.randn(1, channels, 33, 47)
    )
    assert output.last_hidden_state.shape == (1, 256, 2, 2)


@pytest.mark.parametrize('name', ['mamba_adaptor_b0', 'vim_tiny'])
def test_classifier_is_that_of_mmadaptor(name, images, tmp_path):
    size = dict(img_size=(64, 48)) if name == 'vim_tiny' else {}
    classifier = create_classifier(name, num_classes=5, **size).eval()
    config = MambaAdaptorConfig(architecture=name, num_labels=5, image_size=(64, 48))
    model = AutoModelForImageClassification.from_config(config).eval()
    torch.save(dict(state_dict=classifier.state_dict()), tmp_path / 'a.pth')
    model.load_pretrained(str(tmp_path / 'a.pth'))
    assert same(model, classifier)
    assert torch.equal(model(images).logits, classifier(images))
    other = AutoModelForImageClassification.from_config(config)
    other.load_pretrained(str(tmp_path / 'a.pth'), skip=[r'^head\.'])
    assert not torch.equal(other.head.fc.weight, model.head.fc.weight)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save(create_backbone('mamba_adaptor_b0').state_dict(), tmp_path / 'a.pth')
    with pytest.raises(CheckpointMismatchError, match='missing'):
        MambaAdaptorForImageClassification(b0()).load_pretrained(
            str(tmp_path / 'a.pth')
        )


def test_saved_folder_loads_in_another_process(images, tmp_path):
    model = MambaAdaptorForImageClassification(b0(num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'config.json',
        'model.safetensors',
    ]
    torch.save(images, tmp_path / 'images.pth')
    code = f'import mmadaptor, torch\nfolder = {str(tmp_path)!r}\n'
    code += 'from transformers import AutoModelForImageClassification as Auto\n'
    code += 'images = torch.load(f"{folder}/images.pth")\n'
    code += 'print(*Auto.from_pretrained(folder)(images).logits.flatten().tolist())'
    logits = torch.tensor([float(word) for word in python(code)[-6:]]).view(2, 3)
    torch.testing.assert_close(logits, model(images).logits)


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(trainable=['adaptors', 'norms']),
        dict(adaptors=ADAPTORS | dict(share=True)),
        dict(architecture='vim_tiny', image_size=64, out_indices=[3, 5]),
    ],
)
@pytest.mark.parametrize(
    'kind',
    [MambaAdaptorModel, MambaAdaptorForImageClassification, MambaAdaptorBackbone],
)
def test_loaded_model_is_the_saved_one(kind, arguments, tmp_path):
    config = MambaAdaptorConfig(**dict(architecture='mamba_adaptor_b0') | arguments)
    model = kind(config)
    model.save_pretrained(tmp_path)
    loaded, report = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert same(model, loaded)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained == [n for n, p in loaded.named_parameters() if p.requires_grad]
    assert not loaded.training


def test_missing_weights_are_initialized_as_by_the_constructor(tmp_path):
    model = MambaAdaptorForImageClassification(b0(num_labels=3))
    state = model.state_dict()
    kept = {n: v for n, v in state.items() if 'stages.0.0.' not in n}
    model.save_pretrained(tmp_path, state_dict=kept)
    other = MambaAdaptorForImageClassification.from_pretrained(
        tmp_path, num_labels=7, ignore_mismatched_sizes=True
    )
    assert other.head.fc.weight.shape == (7, 256)
    assert 0.015 < other.head.fc.weight.std() < 0.025
    block = other.backbone.stages[0][0]
    assert 0.018 < block.mlp[0].weight.std() < 0.022  # nn.Linear's own: 0.1
    assert torch.equal(block.mixer.D, torch.ones_like(block.mixer.D))
    assert other.backbone.stages[1][0].mixer.A_log.equal(
        state['backbone.stages.1.0.mixer.A_log']
    )


@pytest.mark.parametrize('name', ['mamba_adaptor_b0', 'vim_tiny'])
def test_backbone(name, images):
    config = MambaAdaptorConfig(
        architecture=name, image_size=(64, 48), out_features=['stage2', 'stage4']
    )
    model = AutoBackbone.from_config(config).eval()
    maps = model(images).feature_maps
    assert model.out_indices == [1, 3]
    assert model.channels == [m.shape[1] for m in maps]
    for expected, got in zip(model.backbone(images), maps):
        assert torch.equal(expected, got)
    strides = [64 / m.shape[2] for m in maps]
    assert strides == list(model.backbone.strides)


def test_labels_give_the_loss(images):
    labels = torch.tensor([0, 2])
    output = MambaAdaptorForImageClassification(b0(num_labels=3))(images, labels=labels)
    expected = torch.nn.functional.cross_entropy(output.logits, labels)
    assert torch.equal(output.loss, expected)


def test_gradient_checkpointing_changes_no_gradient(images):
    model = MambaAdaptorForImageClassification(b0(num_labels=3)).train()
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    assert other.is_gradient_checkpointing and not model.is_gradient_checkpointing
    blocks_run = []
    block = other.backbone.stages[2][1]
    block.mixer.register_forward_hook(lambda *_: blocks_run.append(1))
    for each in (model, other):
        each(images, labels=torch.tensor([0, 2])).loss.backward()
    assert len(blocks_run) == 2
    for ours, theirs in zip(model.parameters(), other.parameters()):
        assert torch.equal(ours.grad, theirs.grad)
    other.gradient_checkpointing_disable()
    assert not other.is_gradient_checkpointing
    with pytest.raises(ValueError, match='every_n_layers'):
        other.gradient_checkpointing_enable(every_n_layers=2)


def test_half_precision_and_pickle(images, tmp_path):
    model = MambaAdaptorForImageClassification(b0(num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    half = MambaAdaptorForImageClassification.from_pretrained(
        tmp_path, dtype=torch.bfloat16
    )
    logits = half(images.bfloat16()).logits
    assert logits.dtype == torch.bfloat16
    copied = pickle.loads(pickle.dumps(model))
    assert torch.equal(copied(images).logits, model(images).logits)


class Pictures(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, index):
        return dict(pixel_values=torch.full((3, 32, 32), index % 2.0), labels=index % 2)


def test_trainer_trains(tmp_path, monkeypatch):
    # The folder tests/datasets looks like the package.
    monkeypatch.setattr('transformers.trainer.is_datasets_available', lambda: False)
    transformers.set_seed(0)
    shared = ADAPTORS | dict(share=True)
    model = MambaAdaptorForImageClassification(b0(num_labels=2, adaptors=shared))
    arguments = TrainingArguments(
        tmp_path,
        max_steps=8,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        logging_steps=1,
        save_steps=8,
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=Pictures())
    trainer.train()
    losses = [e['loss'] for e in trainer.state.log_history if 'loss' in e]
    assert losses[-1] < losses[0] / 2
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path / 'checkpoint-8')
    assert same(loaded, model)
    said = []
    monkeypatch.setattr(
        'transformers.trainer.logger.warning', lambda *args, **_: said.append(args[0])
    )
    trainer.train(resume_from_checkpoint=True)
    assert not [text for text in said if 'missing keys' in text]


def test_pipeline_classifies():
    model = MambaAdaptorForImageClassification(
        b0(id2label={0: 'cat', 1: 'dog'}, label2id=dict(cat=0, dog=1))
    ).eval()
    processor = ViTImageProcessor(size=dict(height=64, width=64))
    found = pipeline('image-classification', model=model, image_processor=processor)(
        Image.new('RGB', (40, 50), 'red')
    )
    pixels = processor(Image.new('RGB', (40, 50), 'red'), return_tensors='pt')
    scores = model(**pixels).logits.softmax(-1)[0].tolist()
    assert {f['label']: f['score'] for f in found} == pytest.approx(
        dict(zip(('cat', 'dog'), scores))
    )


def upernet():
    config = UperNetConfig(
        backbone_config=b0(out_features=STAGES),
        hidden_size=16,
        auxiliary_in_channels=128,
        auxiliary_channels=8,
    )
    return UperNetForSemanticSegmentation(config)


def rt_detr():
    sizes = dict(d_model=32, encoder_hidden_dim=32, encoder_ffn_dim=32)
    counts = dict(encoder_layers=1, decoder_layers=1, num_queries=5, num_denoising=0)
    heads = dict(encoder_attention_heads=4, decoder_attention_heads=4)
    config = RTDetrConfig(
        backbone=None,
        use_timm_backbone=False,
        backbone_config=b0(out_features=STAGES[1:]),
        encoder_in_channels=[64, 128, 256],
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=32,
        **sizes,
        **counts,
        **heads,
    )
    return RTDetrForObjectDetection(config)


@pytest.mark.parametrize('build', [upernet, rt_detr])
def test_models_with_a_backbone_config(build, images, tmp_path):
    model = build().eval()
    mlp = next(m for n, m in model.named_modules() if n.endswith('stages.0.0.mlp.0'))
    assert 0.018 < mlp.weight.std() < 0.022  # as our constructor initializes it
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    images = torch.nn.functional.pad(images, (0, 16))
    logits = model(images).logits
    assert torch.equal(loaded(images).logits, logits)
    logits.square().mean().backward()
    gradients = [p.grad for n, p in model.named_parameters() if 'mixer.A_log' in n]
    assert len(gradients) == 5
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_config_in_a_config():
    config = MaskFormerConfig(backbone_config=b0(out_indices=[0, 3]))
    other = MaskFormerConfig(**config.to_dict())
    assert other.backbone_config.to_dict() == config.backbone_config.to_dict()


def test_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    code = blocks(ROOT / 'docs' / 'transformers.md')
    assert len(code) == 5
    for block in code[:4]:  # the last is peft's
        exec(block, names)
    assert names['backbone'].out_features == STAGES
    assert names['other'].config.num_labels == 3
