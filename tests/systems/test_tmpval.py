from tests.systems.parts import *
from tests.systems.conftest import *
from tests.conftest import *
from tests.systems.test_new_process import MODELS
class S(Callback):
    def __init__(self, where, folder): self.where, self.folder=where, folder
    def save(self, tr, hook):
        k=(hook, tr.current_epoch)
        if k in self.where and not tr.sanity_checking: tr.save_checkpoint(self.folder/f"{hook}-{tr.current_epoch}.ckpt", weights_only=False)
    def on_validation_start(self,tr,m): self.save(tr,"vs")
    def on_validation_batch_end(self,tr,m,o,b,i,dataloader_idx=0):
        if i==0: self.save(tr,"vb")
    def on_validation_end(self,tr,m): self.save(tr,"ve")
    def on_train_batch_end(self,tr,m,o,b,i):
        if tr.is_last_batch: self.save(tr,"last")
def test_it(world, tmp_path):
    opts=MODELS["crossfit"]
    where=[(h,e) for h in ("vs","vb","ve","last") for e in (0,1,3,5,6,7)]
    whole=final_state(world,tmp_path,fit(world,tmp_path/"r",[S(where,tmp_path)],**opts))
    for h,e in where:
        try:
            got=final_state(world,tmp_path,fit(world,tmp_path/"q",ckpt_path=tmp_path/f"{h}-{e}.ckpt",**opts))
            d=differing(got,whole); print(h,e,len(d), d[:3])
        except Exception as ex: print(h,e,type(ex),str(ex)[:200])
