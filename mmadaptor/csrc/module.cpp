// SPDX-License-Identifier: Apache-2.0
// The namespace of the ops and the Python module.
#include <Python.h>
#include <torch/library.h>

// Each op adds its schemas in its own file.
TORCH_LIBRARY(mmadaptor, m) {}

// Importing mmadaptor._ext loads the library, which registers the ops. The module itself
// only has a flag that tells whether CUDA kernels are included.
PyMODINIT_FUNC PyInit__ext(void) {
  static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_ext", nullptr, -1, nullptr};
  PyObject* module = PyModule_Create(&definition);
#ifdef MMADAPTOR_WITH_CUDA
  constexpr long with_cuda = 1;
#else
  constexpr long with_cuda = 0;
#endif
  if (module) PyModule_AddIntConstant(module, "with_cuda", with_cuda);
  return module;
}
