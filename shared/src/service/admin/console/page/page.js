// The console as a page of its own.

import { mount } from "./console.js";
import { byId } from "./dom.js";

const { show } = mount(byId("console"), {
  feed: "console/feed",
  onHello: ({ process, version }) => {
    byId("process").textContent = process;
    byId("process").title = `version ${version}`;
    document.title = `Countersign, ${process}`;
  },
});
show(true);
