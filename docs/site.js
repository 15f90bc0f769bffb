// Search without a server: a browser starts no worker from file://. There, this one runs its script in a hidden frame of the page.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.documentElement.append(frame);
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.tell(this, structuredClone(data));
      this.frame = frame;
      this.ready = new Promise((done) => {
        const script = inside.document.createElement("script");
        script.onload = done;
        script.onerror = (event) => this.onerror && this.onerror(event);
        script.src = new URL(address, document.baseURI);
        inside.document.documentElement.append(script);
      });
    }
    postMessage(data) {
      const copy = structuredClone(data); // as a worker's messages are: the page goes on to change its own
      this.ready.then(() => this.frame.isConnected && this.tell(this.frame.contentWindow, copy));
    }
    tell(whom, data) {
      setTimeout(() => whom.onmessage && whom.onmessage({ data }));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
