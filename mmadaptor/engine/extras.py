"""The toolboxes, each installed only where it is wanted."""

EXTRAS = {'mmdet': 'det', 'mmseg': 'seg', 'mmpretrain': 'cls'}


def how_to_install(toolbox: str | None) -> str:
    """How to get a toolbox that is missing.

    Args:
        toolbox: Its import name.

    Returns:
        What to say; empty if it is none of ours. The distribution of that very
        name is the unmaintained one.
    """
    if toolbox not in EXTRAS:
        return ''
    return (f'{toolbox}, which is not installed: in mmadaptor\'s folder, '
            f'pip install -e ".[{EXTRAS[toolbox]}]" --no-build-isolation')
