"""dynamic-activation: activations get their scales while the model runs, so the files hold none.

## What it is
FP8 times FP8 needs codes on both sides. `activation_scheme: dynamic` (HF) or `dynamic: true` (compressed-tensors) means that the reader
takes amax of each token, or of each 128 values of it, and quantizes on the fly. `static` means that the files hold `input_scale` or
`activation_scale`, from a calibration.

## Who multiplies, who divides
The reader divides the activation by its own scale, multiplies codes, and multiplies the sum by both scales. Nothing of that is on disk.
MiniMax-M2, DeepSeek-V3 and Qwen3-FP8 are dynamic. Weighbridge's `run` does not quantize activations; it multiplies decoded weights in
float32.

## What goes wrong
* The claim says static, and no input scale is in the files.
* Static scales for a maximum of 448 meet a device that ends at 240.
* In NxD Inference `activation_quantization_type` sets the weights' type to per-channel in silence; static activations need per-tensor
  scales there.

## See also
tensor-scale, amax, kv-cache, WB412, WB431, WB707

## References
transformers 5.23.0 integrations/finegrained_fp8.py; compressed-tensors 0.20.0 (`input_activations.dynamic`); NxDI models/config.py 576-578;
NxD 2.29 quantization/quantization_layers.py 650, 914.
"""

ALSO = ("activation_scheme", "dynamic", "static-activation", "input_scale")
