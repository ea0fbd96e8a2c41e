# SPDX-License-Identifier: Apache-2.0
# What every run has: our modules, resumes that are exact, curves.
custom_imports = dict(imports=['mmadaptor'])
custom_hooks = [dict(type='mmadaptor.EpochSeedHook'), dict(type='mmadaptor.CurvesHook')]
