// SPDX-License-Identifier: Apache-2.0
// What belongs to the library as a whole: the ops' namespace, and the Python module.
#include <Python.h>
#include <torch/library.h>

// Each op's own file adds its schemas.
TORCH_LIBRARY(mmadaptor, m) {}

// Importing mmadaptor._ext loads the library, which registers the ops; the
// module itself says only whether there are kernels for CUDA among them.
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
