// The selective scan on a CPU, forward and backward, for any vector width.
//
// Lanes are channels: a vector holds one time step of neighbouring channels, so
// the recurrence is a chain of fused multiply-adds with no exchange of lanes,
// and the exponentials of the steps ahead fill the time it waits.
#pragma once

#include <algorithm>
#include <vector>

#include "tile.h"

namespace mmadaptor::MMADAPTOR_ISA {

// How B and C are given, and the absence of a readout.
enum class Form { varying, fixed, absent };

// The channels of one vector and where they are.
struct Lanes {
  int64_t batch, group, block, channel;
  int count;
};

// B or C of one state over a chunk: a number a step, or one vector for all steps.
template <typename T, Form form>
struct Row {
  alignas(MMADAPTOR_VECTOR_BYTES) T values[kChunk];

  MMADAPTOR_INLINE void read(const Strided& from, const Lanes& lanes, int64_t state,
                             int64_t start, int steps) {
    const T* data = static_cast<const T*>(from.data) + state * from.state;
    if constexpr (form == Form::varying) {
      data += lanes.batch * from.batch + lanes.group * from.channel + start * from.time;
      for (int i = 0; i < steps; ++i) values[i] = data[i * from.time];
    } else if constexpr (form == Form::fixed) {
      data += lanes.channel * from.channel;
      for (int i = 0; i < Simd<T>::width; ++i)
        values[i] = i < lanes.count ? data[i * from.channel] : T(0);
    }
  }

  MMADAPTOR_INLINE Vec<T> operator[](int step) const {
    return form == Form::varying ? splat(values[step]) : load(values);
  }
};

inline Window window(const Strided& tensor, c10::ScalarType dtype, const Lanes& lanes,
                     int64_t start, int steps, int64_t state = 0) {
  const int64_t offset = lanes.batch * tensor.batch + lanes.channel * tensor.channel +
                         state * tensor.state + start * tensor.time;
  char* data = static_cast<char*>(tensor.data) + offset * c10::elementSize(dtype);
  return {data, tensor.channel, tensor.time, lanes.count, steps};
}

// One vector for each state: A, the running state, the sums of their gradients.
template <typename T>
class PerState {
 public:
  explicit PerState(int64_t states) : values_(states * width) {}

  MMADAPTOR_INLINE Vec<T> operator[](int64_t state) const { return load(&values_[state * width]); }
  MMADAPTOR_INLINE void set(int64_t state, Vec<T> v) { store(&values_[state * width], v); }
  void clear() { std::fill(values_.begin(), values_.end(), T(0)); }

  // From and to a contiguous (channels, states) tensor.
  void read(const T* tensor, const Lanes& lanes) {
    clear();
    const int64_t states = values_.size() / width;
    for (int lane = 0; lane < lanes.count; ++lane)
      for (int64_t n = 0; n < states; ++n)
        values_[n * width + lane] = tensor[(lanes.channel + lane) * states + n];
  }
  void write(T* tensor, const Lanes& lanes) const {
    const int64_t states = values_.size() / width;
    for (int lane = 0; lane < lanes.count; ++lane)
      for (int64_t n = 0; n < states; ++n)
        tensor[(lanes.channel + lane) * states + n] = values_[n * width + lane];
  }

 private:
  static constexpr int width = Simd<T>::width;
  std::vector<T> values_;
};

// u and delta of a chunk, and what every state needs of them.
template <typename T>
struct Input {
  Tile<T> u, step, drive;  // step d = softplus(delta + bias), drive d u
  Tile<T> slope;           // of the softplus; for the backward pass
};

template <typename T, bool backward>
MMADAPTOR_INLINE void read_input(const Scan& scan, const Lanes& lanes, int64_t start, int steps,
                                 Input<T>& in) {
  read(in.u, scan.dtype, window(scan.u, scan.dtype, lanes, start, steps));
  read(in.step, scan.dtype, window(scan.delta, scan.dtype, lanes, start, steps));
  Vec<T> bias = {};
  if (scan.delta_bias)
    bias = load_as<T>(static_cast<const T*>(scan.delta_bias) + lanes.channel, lanes.count);
  for (int t = 0; t < steps; ++t) {
    Vec<T> d = in.step[t] + bias;
    if constexpr (backward)
      in.slope.set(t, scan.delta_softplus ? softplus_slope<T>(d) : splat(T(1)));
    if (scan.delta_softplus) d = softplus<T>(d);
    in.step.set(t, d);
    in.drive.set(t, d * in.u[t]);
  }
}

template <typename T>
MMADAPTOR_INLINE T* checkpoint(void* checkpoints, const Scan& scan, const Lanes& lanes,
                               int64_t chunk, int64_t state) {
  return static_cast<T*>(checkpoints) +
         ((lanes.batch * scan.chunks() + chunk) * scan.states + state) * scan.channels +
         lanes.channel;
}

template <typename T>
struct ForwardScratch {
  explicit ForwardScratch(int64_t states) : A(states), h(states) {}
  PerState<T> A, h;
  Input<T> in;
  Tile<T> y, z;
};

template <typename T, Form B_form, Form C_form>
MMADAPTOR_INLINE void forward_tile(const Scan& scan, const ScanResults& out, const Lanes& lanes,
                                   ForwardScratch<T>& s) {
  s.A.read(static_cast<const T*>(scan.A), lanes);
  s.h.clear();
  Vec<T> D = {};
  if (scan.D) D = load_as<T>(static_cast<const T*>(scan.D) + lanes.channel, lanes.count);
  Row<T, B_form> B;
  Row<T, C_form> C;
  for (int64_t chunk = 0; chunk < scan.chunks(); ++chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = static_cast<int>(std::min<int64_t>(kChunk, scan.length - start));
    read_input<T, false>(scan, lanes, start, steps, s.in);
    if constexpr (C_form != Form::absent)
      for (int t = 0; t < steps; ++t) s.y.set(t, D * s.in.u[t]);
    for (int64_t n = 0; n < scan.states; ++n) {
      B.read(scan.B, lanes, n, start, steps);
      C.read(scan.C, lanes, n, start, steps);
      const Vec<T> A = s.A[n] * T(kLog2E);
      Vec<T> h = s.h[n];
      store_as<T>(checkpoint<T>(out.checkpoints, scan, lanes, chunk, n), h, lanes.count);
      for (int t = 0; t < steps; ++t) {
        h = exp2(s.in.step[t] * A) * h + s.in.drive[t] * B[t];
        if constexpr (C_form == Form::absent)
          s.y.set(t, h);
        else
          s.y.set(t, s.y[t] + C[t] * h);
      }
      s.h.set(n, h);
      if constexpr (C_form == Form::absent)
        write(s.y, c10::CppTypeToScalarType<T>::value, window(out.h, c10::CppTypeToScalarType<T>::value, lanes, start, steps, n));
    }
    if constexpr (C_form != Form::absent) {
      if (scan.z.data) {
        read(s.z, scan.dtype, window(scan.z, scan.dtype, lanes, start, steps));
        for (int t = 0; t < steps; ++t) s.y.set(t, s.y[t] * s.z[t] * sigmoid<T>(s.z[t]));
      }
      write(s.y, scan.dtype, window(out.y, scan.dtype, lanes, start, steps));
    }
  }
  if (out.last_state)
    s.h.write(static_cast<T*>(out.last_state) + lanes.batch * scan.channels * scan.states, lanes);
}

template <typename T>
struct BackwardScratch {
  explicit BackwardScratch(int64_t states)
      : A(states), carry(states), grad_A(states), grad_B(states), grad_C(states) {}
  PerState<T> A, carry, grad_A, grad_B, grad_C;
  Input<T> in;
  Tile<T> decay, kept;      // exp(d A), and what it leaves of the state before
  Tile<T> grad_y, grad_h;   // incoming, grad_y before the gate
  Tile<T> B_terms, C_terms; // what each channel adds to the gradients of B and C
  Tile<T> grad_drive, grad_step;
  Tile<T> y, z, gate_slope, grad_z;
  Tile<T> grad_u, grad_delta;
};

// One state over one chunk, forth from its checkpoint and back.
template <typename T, Form B_form, Form C_form>
MMADAPTOR_INLINE void backward_state(const Scan& scan, const ScanGradients& grads,
                                     const Lanes& lanes, int64_t chunk, int64_t n, int steps,
                                     BackwardScratch<T>& s) {
  const int64_t start = chunk * kChunk;
  Row<T, B_form> B;
  Row<T, C_form> C;
  B.read(scan.B, lanes, n, start, steps);
  C.read(scan.C, lanes, n, start, steps);
  const Vec<T> A = s.A[n], rate = A * T(kLog2E);
  const bool gated = scan.z.data != nullptr;

  Vec<T> h = load_as<T>(
      checkpoint<T>(const_cast<void*>(grads.checkpoints), scan, lanes, chunk, n), lanes.count);
  Vec<T> grad_C = s.grad_C[n];
  for (int t = 0; t < steps; ++t) {
    const Vec<T> decay = exp2(s.in.step[t] * rate);
    const Vec<T> kept = decay * h;
    h = kept + s.in.drive[t] * B[t];
    s.decay.set(t, decay);
    s.kept.set(t, kept);
    if constexpr (C_form != Form::absent) {
      const Vec<T> term = h * s.grad_y[t];
      if constexpr (C_form == Form::varying) s.C_terms.set(t, term);
      else grad_C += term;
      if (gated) s.y.set(t, s.y[t] + C[t] * h);
    }
  }
  s.grad_C.set(n, grad_C);

  if constexpr (C_form == Form::absent)
    read(s.grad_h, c10::CppTypeToScalarType<T>::value, window(grads.h, c10::CppTypeToScalarType<T>::value, lanes, start, steps, n));
  Vec<T> carry = s.carry[n], grad_A = s.grad_A[n], grad_B = s.grad_B[n];
  for (int t = steps - 1; t >= 0; --t) {
    Vec<T> grad_h = carry;
    if constexpr (C_form == Form::absent) grad_h += s.grad_h[t];
    else grad_h += C[t] * s.grad_y[t];
    const Vec<T> term = grad_h * s.in.drive[t];
    if constexpr (B_form == Form::varying) s.B_terms.set(t, term);
    else grad_B += term;
    s.grad_drive.set(t, s.grad_drive[t] + grad_h * B[t]);
    const Vec<T> grad_exponent = grad_h * s.kept[t];
    grad_A += grad_exponent * s.in.step[t];
    s.grad_step.set(t, s.grad_step[t] + grad_exponent * A);
    carry = s.decay[t] * grad_h;
  }
  s.carry.set(n, carry);
  s.grad_A.set(n, grad_A);
  s.grad_B.set(n, grad_B);

  const int64_t part = (lanes.batch * scan.groups + lanes.group) * scan.blocks() + lanes.block;
  const int64_t row = (part * scan.states + n) * scan.length + start;
  if constexpr (B_form == Form::varying)
    add_lane_sums(s.B_terms, steps, static_cast<T*>(grads.B) + row);
  if constexpr (C_form == Form::varying)
    add_lane_sums(s.C_terms, steps, static_cast<T*>(grads.C) + row);
}

// The incoming gradient of a chunk, taken back through the gate y silu(z).
template <typename T>
MMADAPTOR_INLINE void read_grad_y(const Scan& scan, const ScanGradients& grads,
                                  const Lanes& lanes, int64_t start, int steps, Vec<T> D,
                                  BackwardScratch<T>& s) {
  read(s.grad_y, scan.dtype, window(grads.y, scan.dtype, lanes, start, steps));
  if (!scan.z.data) return;
  read(s.z, scan.dtype, window(scan.z, scan.dtype, lanes, start, steps));
  for (int t = 0; t < steps; ++t) {
    const Vec<T> z = s.z[t], on = sigmoid<T>(z);
    s.gate_slope.set(t, s.grad_y[t] * on * (z * (T(1) - on) + T(1)));
    s.grad_y.set(t, s.grad_y[t] * z * on);
    s.y.set(t, D * s.in.u[t]);
  }
}

template <typename T, Form B_form, Form C_form>
MMADAPTOR_INLINE void backward_tile(const Scan& scan, const ScanGradients& grads,
                                    const Lanes& lanes, BackwardScratch<T>& s) {
  s.A.read(static_cast<const T*>(scan.A), lanes);
  s.carry.clear();
  if (grads.last_state)
    s.carry.read(static_cast<const T*>(grads.last_state) +
                     lanes.batch * scan.channels * scan.states, lanes);
  s.grad_A.clear();
  s.grad_B.clear();
  s.grad_C.clear();
  Vec<T> D = {}, grad_D = {}, grad_bias = {};
  if (scan.D) D = load_as<T>(static_cast<const T*>(scan.D) + lanes.channel, lanes.count);

  for (int64_t chunk = scan.chunks() - 1; chunk >= 0; --chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = static_cast<int>(std::min<int64_t>(kChunk, scan.length - start));
    read_input<T, true>(scan, lanes, start, steps, s.in);
    if constexpr (C_form != Form::absent)
      read_grad_y<T>(scan, grads, lanes, start, steps, D, s);
    for (int t = 0; t < steps; ++t) {
      s.grad_drive.set(t, Vec<T>{});
      s.grad_step.set(t, Vec<T>{});
    }
    for (int64_t n = 0; n < scan.states; ++n)
      backward_state<T, B_form, C_form>(scan, grads, lanes, chunk, n, steps, s);
    for (int t = 0; t < steps; ++t) {
      const Vec<T> u = s.in.u[t], grad_drive = s.grad_drive[t];
      Vec<T> grad_u = s.in.step[t] * grad_drive;
      if constexpr (C_form != Form::absent) {
        grad_u += D * s.grad_y[t];
        grad_D += u * s.grad_y[t];
        if (scan.z.data) s.grad_z.set(t, s.gate_slope[t] * s.y[t]);
      }
      const Vec<T> grad_delta = (s.grad_step[t] + u * grad_drive) * s.in.slope[t];
      grad_bias += grad_delta;
      s.grad_u.set(t, grad_u);
      s.grad_delta.set(t, grad_delta);
    }
    write(s.grad_u, scan.dtype, window(grads.u, scan.dtype, lanes, start, steps));
    write(s.grad_delta, scan.dtype, window(grads.delta, scan.dtype, lanes, start, steps));
    if (scan.z.data) write(s.grad_z, scan.dtype, window(grads.z, scan.dtype, lanes, start, steps));
  }

  const int64_t row = lanes.batch * scan.channels;
  s.grad_A.write(static_cast<T*>(grads.A) + row * scan.states, lanes);
  if constexpr (B_form == Form::fixed)
    s.grad_B.write(static_cast<T*>(grads.B) + row * scan.states, lanes);
  if constexpr (C_form == Form::fixed)
    s.grad_C.write(static_cast<T*>(grads.C) + row * scan.states, lanes);
  if (scan.D)
    store_as<T>(static_cast<T*>(grads.D) + row + lanes.channel, grad_D, lanes.count);
  if (scan.delta_bias)
    store_as<T>(static_cast<T*>(grads.delta_bias) + row + lanes.channel, grad_bias, lanes.count);
}

// Every tile of the tasks begin .. end-1, in order.
template <typename Visit>
MMADAPTOR_INLINE void each_tile(const Scan& scan, int width, int64_t begin, int64_t end,
                                const Visit& visit) {
  for (int64_t task = begin; task < end; ++task) {
    const int64_t block = task % scan.blocks();
    const int64_t group = task / scan.blocks() % scan.groups;
    const int64_t batch = task / scan.blocks() / scan.groups;
    const int64_t first = block * kBlock;
    const int64_t last = std::min(first + kBlock, scan.group_channels());
    for (int64_t c = first; c < last; c += width) {
      const int count = static_cast<int>(std::min<int64_t>(width, last - c));
      visit(Lanes{batch, group, block, group * scan.group_channels() + c, count});
    }
  }
}

struct Forward {
  template <typename T, Form B_form, Form C_form>
  static void run(const Scan& scan, const ScanResults& out, int64_t begin, int64_t end) {
    ForwardScratch<T> scratch(scan.states);
    each_tile(scan, Simd<T>::width, begin, end, [&](const Lanes& lanes) {
      forward_tile<T, B_form, C_form>(scan, out, lanes, scratch);
    });
  }
};

struct Backward {
  template <typename T, Form B_form, Form C_form>
  static void run(const Scan& scan, const ScanGradients& grads, int64_t begin, int64_t end) {
    BackwardScratch<T> scratch(scan.states);
    each_tile(scan, Simd<T>::width, begin, end, [&](const Lanes& lanes) {
      backward_tile<T, B_form, C_form>(scan, grads, lanes, scratch);
    });
  }
};

// From what a call says at run time to the template that does it.
template <typename Pass, typename T, Form B_form, typename Tensors>
void for_readout(const Scan& scan, const Tensors& tensors, int64_t begin, int64_t end) {
  if (!scan.reads_out)
    Pass::template run<T, B_form, Form::absent>(scan, tensors, begin, end);
  else if (scan.C_varies)
    Pass::template run<T, B_form, Form::varying>(scan, tensors, begin, end);
  else
    Pass::template run<T, B_form, Form::fixed>(scan, tensors, begin, end);
}

template <typename Pass, typename T, typename Tensors>
void for_form(const Scan& scan, const Tensors& tensors, int64_t begin, int64_t end) {
  if (scan.B_varies)
    for_readout<Pass, T, Form::varying>(scan, tensors, begin, end);
  else
    for_readout<Pass, T, Form::fixed>(scan, tensors, begin, end);
}

template <typename Pass, typename Tensors>
void for_dtype(const Scan& scan, const Tensors& tensors, int64_t begin, int64_t end) {
  if (scan.dtype == c10::ScalarType::Double)
    for_form<Pass, double>(scan, tensors, begin, end);
  else
    for_form<Pass, float>(scan, tensors, begin, end);
}

const ScanKernels scan_kernels = {for_dtype<Forward, ScanResults>,
                                  for_dtype<Backward, ScanGradients>};

}  // namespace mmadaptor::MMADAPTOR_ISA
