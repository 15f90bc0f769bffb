// Numbers for people, in the words of the command line: decimal units, commas between thousands.

const SIZE_STEPS = ["bytes", "kB", "MB", "GB", "TB", "PB"];

const commas = (number) => String(number).replace(/\B(?=(\d{3})+(?!\d))/g, ",");

/** A size in bytes as `230.12 GB`. Steps up where rounding would print 1000.00. */
function sizeText(bytes) {
  let value = bytes;
  let step = 0;
  while (Math.abs(value) >= 999.995 && step < SIZE_STEPS.length - 1) {
    value /= 1000;
    step += 1;
  }
  return step === 0 ? `${commas(bytes)} bytes` : `${value.toFixed(2)} ${SIZE_STEPS[step]}`;
}

/** `1 tensor`, `96,103 tensors`. */
const countText = (number, noun) => `${commas(number)} ${number === 1 ? noun : `${noun}s`}`;
