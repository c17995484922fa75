// Playground and console: one is shown, and both go on, so that the console knows the last minute when it is looked at.

import { mount } from "./console/console.js";
import { byId } from "./dom.js";

const VIEWS = ["playground", "console"];

export function showViews() {
  const watching = mount(byId("view-console"), { feed: "console/feed" });
  const show = () => {
    const wanted = VIEWS.includes(location.hash.slice(1)) ? location.hash.slice(1) : VIEWS[0];
    for (const view of VIEWS) {
      byId(`view-${view}`).hidden = view !== wanted;
      byId(`to-${view}`).setAttribute("aria-current", String(view === wanted));
    }
  };
  addEventListener("hashchange", show);
  show();
  watching.show(true);
}
